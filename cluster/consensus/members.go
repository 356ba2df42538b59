package consensus

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// Server is a replica as the configuration that all of them agree on has it.
type Server struct {
	ID, Addr string
	Voter    bool
}

// Servers returns the newest configuration this replica has, which need not be committed yet; nil before Run.
func (r *Replica) Servers() []Server {
	rf := r.raft.Load()
	if rf == nil {
		return nil
	}
	var out []Server
	for _, s := range rf.GetConfiguration().Configuration().Servers {
		out = append(out, Server{string(s.ID), string(s.Address), s.Suffrage == raft.Voter})
	}
	return out
}

func (r *Replica) server(id string) (Server, error) {
	for _, s := range r.Servers() {
		if s.ID == id {
			return s, nil
		}
	}
	return Server{}, fmt.Errorf("%w: no server %q", errKnown, id)
}

// Leader returns the replica that leads, as far as this one knows.
func (r *Replica) Leader() (id, addr string, ok bool) {
	rf := r.raft.Load()
	if rf == nil {
		return "", "", false
	}
	a, i := rf.LeaderWithID()
	return string(i), string(a), i != ""
}

// change has the configuration changed and waits until the change is committed. Changes come one at a time; raft refuses
// one that leaves no voter, and one that has two servers at an address.
func (r *Replica) change(ctx context.Context, what string, id string, do func(rf *raft.Raft) raft.IndexFuture) error {
	err := r.ask(ctx, func(rf *raft.Raft) error { return do(rf).Error() })
	if err != nil {
		return fmt.Errorf("%s server %s: %w", what, id, err)
	}
	return nil
}

// AddNonvoter adds a replica that gets everything and has no vote; for one that is there it changes the address only.
// What stands at that address under another id has to be removed before. ErrNotLeader, ErrUnknown, as all that follow.
func (r *Replica) AddNonvoter(ctx context.Context, id, addr string) error {
	return r.change(ctx, "add", id, func(rf *raft.Raft) raft.IndexFuture {
		return rf.AddNonvoter(raft.ServerID(id), raft.ServerAddress(addr), 0, 0)
	})
}

// Promote gives a non-voter a vote. It should have caught up: nothing is committed that a majority does not have.
func (r *Replica) Promote(ctx context.Context, id string) error {
	s, err := r.server(id)
	if err != nil {
		return fmt.Errorf("promote: %w", err)
	}
	return r.change(ctx, "promote", id, func(rf *raft.Raft) raft.IndexFuture {
		return rf.AddVoter(raft.ServerID(id), raft.ServerAddress(s.Addr), 0, 0)
	})
}

// Demote takes a vote away. A leader should hand over first.
func (r *Replica) Demote(ctx context.Context, id string) error {
	return r.change(ctx, "demote", id, func(rf *raft.Raft) raft.IndexFuture { return rf.DemoteVoter(raft.ServerID(id), 0, 0) })
}

// Remove removes a replica. A leader should hand over first. Nobody tells it: it hears nothing more, and its pre-votes
// are refused.
func (r *Replica) Remove(ctx context.Context, id string) error {
	return r.change(ctx, "remove", id, func(rf *raft.Raft) raft.IndexFuture { return rf.RemoveServer(raft.ServerID(id), 0, 0) })
}

// SetAddress notes where a replica is to be dialled from now on; its vote stays what it is.
func (r *Replica) SetAddress(ctx context.Context, id, addr string) error {
	s, err := r.server(id)
	if err != nil {
		return fmt.Errorf("change address: %w", err)
	}
	return r.change(ctx, "change address of", id, func(rf *raft.Raft) raft.IndexFuture {
		if s.Voter {
			return rf.AddVoter(raft.ServerID(id), raft.ServerAddress(addr), 0, 0)
		}
		return rf.AddNonvoter(raft.ServerID(id), raft.ServerAddress(addr), 0, 0)
	})
}

// TransferLeadership hands over to a voter; "" is the one that has most of the log. When it returns nil this replica
// does not lead any more. Proposals answer ErrNotLeader meanwhile.
func (r *Replica) TransferLeadership(ctx context.Context, to string) error {
	var s Server
	if to != "" {
		var err error
		if s, err = r.server(to); err != nil {
			return fmt.Errorf("hand over the leadership: %w", err)
		}
	}
	err := r.ask(ctx, func(rf *raft.Raft) error {
		if to == "" {
			return rf.LeadershipTransfer().Error()
		}
		return rf.LeadershipTransferToServer(raft.ServerID(s.ID), raft.ServerAddress(s.Addr)).Error()
	})
	if err != nil {
		return fmt.Errorf("hand over the leadership: %w", err)
	}
	return nil
}

// Contact returns when the leader last heard of a replica, zero where this replica does not lead. One that heartbeats
// reach has been heard of now. A replica that is gone without a word is noticed when a heartbeat to it times out.
func (r *Replica) Contact(id string) time.Time {
	if !r.Leading() {
		return time.Time{}
	}
	return r.peers.last(id)
}

// contacts are the replicas that heartbeats do not reach.
type contacts struct {
	now func() time.Time

	mu     sync.Mutex
	silent map[raft.ServerID]time.Time // when it was last heard of
}

// observe takes what raft tells, in raft's own goroutines.
func (c *contacts) observe(data any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch o := data.(type) {
	case raft.RaftState:
		c.silent = nil // a new leader has to find out for itself
	case raft.FailedHeartbeatObservation:
		if c.silent == nil {
			c.silent = map[raft.ServerID]time.Time{}
		}
		c.silent[o.PeerID] = o.LastContact
	case raft.ResumedHeartbeatObservation:
		delete(c.silent, o.PeerID)
	case raft.PeerObservation:
		delete(c.silent, o.Peer.ID)
	}
}

func (c *contacts) last(id string) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t, ok := c.silent[raft.ServerID(id)]; ok {
		return t
	}
	return c.now()
}
