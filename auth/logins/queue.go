package logins

import "slices"

// queue is a bounded set of logins that are not written yet.
type queue struct {
	records map[key]record
	byID    map[string][][32]byte // apps by id
}

func newQueue() queue {
	return queue{records: make(map[key]record), byID: make(map[string][][32]byte)}
}

func (q *queue) empty() bool { return len(q.records) == 0 }

// add puts the login into the queue in place of an earlier one of the same key;
// false means that there is no room.
func (q *queue) add(r record) bool {
	if _, ok := q.records[r.key]; !ok {
		if len(q.records) >= maxQueue {
			return false
		}
		q.byID[r.id] = append(q.byID[r.id], r.app)
	}
	q.records[r.key] = r
	return true
}

// owners returns up to two apps that know the id.
func (q *queue) owners(id string) [][32]byte {
	apps := q.byID[id]
	return append([][32]byte(nil), apps[:min(2, len(apps))]...)
}

// first returns up to n of the logins, in no order.
func (q *queue) first(n int) []record {
	out := make([]record, 0, min(n, len(q.records)))
	for _, r := range q.records {
		if len(out) == n {
			break
		}
		out = append(out, r)
	}
	return out
}

// remove takes logins out that were written.
func (q *queue) remove(batch []record) {
	for i := range batch {
		r := &batch[i]
		delete(q.records, r.key)
		apps := slices.DeleteFunc(q.byID[r.id], func(app [32]byte) bool { return app == r.app })
		if len(apps) == 0 {
			delete(q.byID, r.id)
			continue
		}
		q.byID[r.id] = apps
	}
}
