package bench

import (
	"errors"
	"net"
	"testing"
	"time"

	"github.com/gobwas/ws"
)

func TestFanOutOverTheHub(t *testing.T) {
	for _, window := range []int{1, 4} {
		conns := openTest(t, startFloor(t, true, false), 20)
		cfg := loadConfig{window: window, size: 64, warmup: time.Millisecond, duration: 100 * time.Millisecond}
		cell, err := fanLoad(t.Context(), conns, cfg, noMeter{})
		if err != nil {
			t.Fatal(err)
		}
		if cell.Messages < 20 || cell.Lost != 0 || cell.P50 <= 0 {
			t.Fatalf("%+v", cell)
		}
	}
}

// A server that repeats a delivery is caught.
func TestFanOutChecksTheOrder(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		nc, err := ln.Accept()
		if err != nil {
			return
		}
		defer nc.Close()
		ws.Upgrade(nc)
		for {
			f, err := readFrame(nc)
			if err != nil {
				return
			}
			f = ws.UnmaskFrame(f)
			ws.WriteFrame(nc, ws.NewBinaryFrame(f.Payload))
			ws.WriteFrame(nc, ws.NewBinaryFrame(f.Payload))
		}
	}()
	e := &endpoint{address: ln.Addr().String(), host: "repeater", path: "/", sources: newSources(ln.Addr().String()), max: 100}
	conns := openTest(t, e, 1)
	_, err = fanLoad(t.Context(), conns, loadConfig{window: 1, size: 16, duration: time.Minute}, noMeter{})
	if !errors.Is(err, errOrder) {
		t.Fatalf("error %v", err)
	}
}
