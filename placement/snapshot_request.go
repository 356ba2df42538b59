package placement

import (
	"slices"

	"github.com/trunkline-edge/trunkline/wire"
)

// frozenRequests is what a snapshot has of the requests of one session.
type frozenRequests struct {
	session   wire.NodeSession
	forgotten uint64
	list      []remembered
}

func (c *content) freezeRequests() []frozenRequests {
	out := make([]frozenRequests, 0, len(c.requests))
	for i := range c.sessions {
		if q := c.requests[c.sessions[i].ID]; q != nil {
			out = append(out, frozenRequests{c.sessions[i].ID, q.forgotten, slices.Clone(q.list)})
		}
	}
	return out
}

// writeRequests writes a section per session that made requests:
//
//	u64 session | u64 highest forgotten counter | u16 n | n times: u64 counter, u64 epoch, u32 length, answers
func (s *Snapshot) writeRequests(o *sectionWriter) {
	for _, q := range s.requests {
		b := appendU64(appendU64(o.buffer(), q.session), q.forgotten)
		b = appendU16(b, len(q.list))
		for _, m := range q.list {
			b = appendU64(appendU64(b, m.counter), m.epoch)
			b = append(appendU32(b, uint32(len(m.answers))), m.answers...)
		}
		o.section(sectionRequests, b)
	}
}

func (s *restorer) takeRequests(in *reader) error {
	session, q := in.node(), &requests{forgotten: in.u64()}
	n := int(in.u16())
	if _, twice := s.c.requests[session]; twice || in.bad || n > MaxRequests || s.c.sessionIndex(session) < 0 {
		return damaged("requests of node session %d", session)
	}
	above := q.forgotten
	for range n {
		m := remembered{counter: in.u64(), epoch: in.epoch()}
		size := in.u32()
		if in.bad || size > maxAnswers || m.counter <= above || m.epoch.Index() > s.c.index {
			return damaged("request %d of node session %d", m.counter, session)
		}
		m.answers = slices.Clone(in.take(int(size)))
		for r := (reader{b: m.answers}); len(r.b) > 0; {
			if r.answer(m.epoch); r.bad {
				return damaged("answers of request %d of node session %d", m.counter, session)
			}
		}
		above = m.counter
		q.list = append(q.list, m)
		q.bytes += len(m.answers)
	}
	if in.bad || q.bytes > maxAnswers {
		return damaged("requests of node session %d", session)
	}
	s.c.requests[session] = q
	return nil
}
