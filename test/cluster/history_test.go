package cluster

import (
	"bufio"
	"encoding/json"
	"os"
	"sync"
	"testing"
	"time"
)

// event is one line of a history. All hosts are one machine, so their times compare.
type event struct {
	At    int64  `json:"at"` // nanoseconds since 1970; of an operation: of its call
	Proc  string `json:"proc"`
	Op    string `json:"op"`
	Ret   int64  `json:"ret,omitempty"` // of an operation: when it returned
	User  string `json:"user,omitempty"`
	State string `json:"state,omitempty"`
	Store string `json:"store,omitempty"`
	Node  string `json:"node,omitempty"`
	Addr  string `json:"addr,omitempty"`
	N     int    `json:"n,omitempty"`
	Key   string `json:"key,omitempty"`
	Epoch uint64 `json:"epoch,omitempty"`
	Inst  uint64 `json:"inst,omitempty"`
	// Result is of an operation: ok, missing, exists or unknown.
	Result string `json:"result,omitempty"`
	Text   string `json:"text,omitempty"`
}

func (e event) at() time.Time { return time.Unix(0, e.At) }

// history is everything that the drivers of a world did and saw.
type history struct {
	mu   sync.Mutex
	all  []event
	file *os.File
	out  *bufio.Writer
}

func newHistory(t *testing.T) *history {
	t.Helper()
	f, err := os.Create(logPath(t, "history", "jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	h := &history{file: f, out: bufio.NewWriter(f)}
	t.Cleanup(func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.out.Flush()
		h.file.Close()
	})
	return h
}

func (h *history) add(e event) {
	line, _ := json.Marshal(e)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(h.all, e)
	h.out.Write(append(line, '\n'))
}

// since returns the events from a position on.
func (h *history) since(from int) []event {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.all[from:len(h.all):len(h.all)]
}

// of returns the events of one kind.
func (h *history) of(op string) (found []event) {
	for _, e := range h.since(0) {
		if e.Op == op {
			found = append(found, e)
		}
	}
	return found
}
