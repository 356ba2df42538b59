package faults

import (
	"testing"
	"time"

	"github.com/trunkline-edge/trunkline/cluster"
	"github.com/trunkline-edge/trunkline/cluster/clustertest"
	"github.com/trunkline-edge/trunkline/placement"
)

var times = cluster.TimesOf(placement.OneRegion)

// TestLeaderChangeEndsNoSession: nobody's but that of the leader that died, which ends in its time.
func TestLeaderChangeEndsNoSession(t *testing.T) {
	tell(t, 3, func(w *world) {
		before, leader := w.sessions(), w.Leader()
		rest := w.others(leader)
		began := time.Now()
		w.kill(leader)
		over := func() bool {
			_, open := rest[0].Get().Table().Session(before[leader.Name])
			return !open
		}
		w.always(times.Dead, "the session of the dead leader is open, and the others hold theirs", func() bool {
			return !over() && w.hold(rest...)
		})
		w.Until("the session of the dead leader is over", over)
		took := time.Since(began)
		w.t.Logf("its session was over after %v", took)
		if took > times.Dead+2*times.FailOver+4*time.Second { // a busy machine may change its leader once more
			w.t.Errorf("its session was over after %v", took)
		}
		w.keep(before, rest...)
		leader.Start().Joined()
	})
}

// hold says whether all of some nodes hold a lease.
func (w *world) hold(nodes ...*clustertest.Node) bool {
	for _, n := range nodes {
		if _, held := n.Get().Lease(); !held {
			return false
		}
	}
	return true
}

// TestCutOffNodeStopsBeforeItsSessionEnds: which is after the time that the leader waits, and not before.
func TestCutOffNodeStopsBeforeItsSessionEnds(t *testing.T) {
	tell(t, 3, func(w *world) {
		before, leader, n := w.sessions(), w.Leader(), w.Follower()
		w.cutOff(n)
		began := time.Now()
		var heldUntil time.Duration
		w.Until("its session is over", func() bool {
			_, open := leader.Get().Table().Session(before[n.Name])
			if _, held := n.Get().Lease(); held && n.Get().Node() == before[n.Name] {
				heldUntil = time.Since(began)
			}
			return !open
		})
		took := time.Since(began)
		w.t.Logf("it held its lease for %v, its session was over after %v", heldUntil, took)
		// The last renewal may have been heard one interval before, and have waited for its tick.
		if soonest := times.Dead - times.Renew - times.Tick - 100*time.Millisecond; took < soonest {
			w.t.Errorf("its session was over after %v, at the soonest after %v", took, soonest)
		}
		if latest := times.Dead + 3*time.Second; took > latest {
			w.t.Errorf("its session was over after %v, at the latest after %v", took, latest)
		}
		if heldUntil+times.Dead-times.Lease-times.Renew > took {
			w.t.Errorf("it held a lease for %v, and its session was over after %v", heldUntil, took)
		}
		w.keep(before, w.others(n)...)
		w.Heal()
		w.Until("it has another session", func() bool { s := n.Joined().Node(); return s != before[n.Name] && s != 0 })
	})
}

// TestLeaderThatCommitsNothingGrantsNothing: neither one that was cut off, nor one whose disk hangs and whose heartbeats
// go on. So no old leader grants what a new one does not know of.
func TestLeaderThatCommitsNothingGrantsNothing(t *testing.T) {
	for name, fault := range map[string]func(w *world, leader *clustertest.Node){
		"cut off": func(w *world, leader *clustertest.Node) { w.cutOff(leader) },
		"disk":    func(_ *world, leader *clustertest.Node) { leader.Disk.Hang() },
	} {
		t.Run(name, func(t *testing.T) {
			tell(t, 3, func(w *world) {
				leader := w.Leader()
				w.pass(time.Duration(w.Rand.Int64N(int64(times.Renew))))
				began := time.Now()
				fault(w, leader)
				latest := map[string]time.Duration{}
				look := func(nodes ...*clustertest.Node) {
					for _, n := range nodes {
						if l := n.Now(); l != nil {
							until, _ := l.Lease()
							latest[n.Name] = until.Sub(began)
						}
					}
				}
				w.Until("there is a new leader", func() bool {
					seen := latest
					latest = map[string]time.Duration{}
					look(w.All()...)
					if leads(w.others(leader)...) == nil {
						return false
					}
					latest = seen // what was seen before there was one
					return true
				})
				// The old leader's own, from now on: nobody else can be asked by it.
				for end := time.Now().Add(longer(time.Second, 4*time.Second)); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
					look(leader)
				}
				for node, until := range latest {
					w.t.Logf("%s, leader %v: its lease is until %v", node, node == leader.Name, until)
					if until > times.Lease {
						w.t.Errorf("%s was granted a lease by a leader that could commit nothing: until %v after it, a lease is %v",
							node, until, times.Lease)
					}
				}
				leader.Disk.Heal()
				w.Heal()
				if name == "disk" {
					_ = leader.Ended()
					leader.Start()
				}
				leader.Joined()
			})
		})
	}
}

// TestRevokedNodeIsOut within five seconds, and its certificate opens nothing.
func TestRevokedNodeIsOut(t *testing.T) {
	tell(t, 3, func(w *world) {
		before := w.sessions()
		n := w.Node("n3") // not that of which the load has the certificate
		thief := newHolder(w.t, w.Cluster, n.Name)
		if _, err := thief.call(w.Node("n1"), statusVerb, nil); err != nil {
			w.t.Fatalf("before: %v", err)
		}
		began := time.Now()
		if err := w.Node("n2").Get().Revoke(w.t.Context(), n.Name); err != nil {
			w.t.Fatal(err)
		}
		if err := n.Ended(); err == nil {
			w.t.Error("it ended without saying why")
		}
		rest := w.others(n)
		w.Until("its replica and its session are gone", func() bool {
			_, open := rest[0].Get().Table().Session(before[n.Name])
			return !open && len(rest[0].Get().Peers()) == 2
		})
		took := time.Since(began)
		w.t.Logf("out after %v", took) // it ends by itself, since nobody who is left answers it
		if took > 5*time.Second {
			w.t.Errorf("out after %v", took)
		}
		for _, to := range rest {
			if _, err := thief.call(to, statusVerb, nil); err == nil {
				w.t.Errorf("%s answers the holder of a certificate that was revoked", to.Name)
			}
		}
		w.goOn(20)
		w.keep(before, rest...)
	})
}
