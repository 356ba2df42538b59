package consensus

import (
	"testing"
	"time"
)

// A process that was paused in the middle of a write does not take its disk for stuck when it goes on.
func TestPauseIsNotTakenForAStuckDisk(t *testing.T) {
	now := time.Unix(0, 0)
	clock := func() time.Time { return now }
	r := &Replica{cfg: Config{Now: clock}}
	r.disk.now, r.progress.now = clock, clock
	w := watchdog{replica: r, last: now}
	r.disk.set(now)
	r.progress.begin()
	now = now.Add(time.Minute)
	w.wake()
	if disk, stall := r.disk.waiting(), r.progress.stalled(); disk != 0 || stall != 0 {
		t.Errorf("after a pause the disk has taken %v and proposals have waited %v", disk, stall)
	}
	for range 60 { // one that is stuck is found all the same
		now = now.Add(watchEvery)
		w.wake()
	}
	if disk := r.disk.waiting(); disk <= diskLimit {
		t.Errorf("a disk that does not answer for 6 s has taken %v", disk)
	}
}
