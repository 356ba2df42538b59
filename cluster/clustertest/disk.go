package clustertest

import (
	"os"
	"sync"
	"time"

	"github.com/trunkline-edge/trunkline/cluster"
)

// Disk is the disk with a node's log. It does what it should until a test says otherwise, and keeps that over the node's
// lives.
type Disk struct {
	mu    sync.Mutex
	slow  time.Duration
	err   error
	stuck chan struct{} // closed when syncs go on; nil while they do
	syncs int
}

// Slow makes every sync take so much longer.
func (d *Disk) Slow(by time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.slow = by
}

// Fail makes every write and sync fail with an error; nil mends it.
func (d *Disk) Fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.err = err
}

// Hang makes every sync wait until Heal.
func (d *Disk) Hang() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stuck == nil {
		d.stuck = make(chan struct{})
	}
}

// Heal makes the disk a good one.
func (d *Disk) Heal() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.slow, d.err = 0, nil
	if d.stuck != nil {
		close(d.stuck)
		d.stuck = nil
	}
}

// Syncs is how many there were.
func (d *Disk) Syncs() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.syncs
}

func (d *Disk) open(path string, size int64) (cluster.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err == nil && st.Size() < size {
		err = f.Truncate(size)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return faulty{f, d}, nil
}

// faulty is a file on a Disk.
type faulty struct {
	*os.File
	disk *Disk
}

func (f faulty) WriteAt(p []byte, at int64) (int, error) {
	f.disk.mu.Lock()
	err := f.disk.err
	f.disk.mu.Unlock()
	if err != nil {
		return 0, err
	}
	return f.File.WriteAt(p, at)
}

func (f faulty) Sync() error {
	f.disk.mu.Lock()
	err, slow, stuck := f.disk.err, f.disk.slow, f.disk.stuck
	f.disk.syncs++
	f.disk.mu.Unlock()
	if stuck != nil {
		<-stuck
	}
	time.Sleep(slow)
	if err != nil {
		return err
	}
	return f.File.Sync()
}
