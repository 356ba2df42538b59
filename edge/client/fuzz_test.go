package client

import (
	"bytes"
	"net/http"
	"testing"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

// FuzzFrames feeds the WebSocket frame reader any bytes in any pieces: it does not panic, keeps no more than it is
// allowed, and gives the same messages however the bytes are cut.
func FuzzFrames(f *testing.F) {
	f.Add(appendMasked(nil, 0x82, []byte("hello")), uint8(3))
	f.Add(appendMasked(appendMasked(appendMasked(nil, 0x01, []byte("te")), 0x89, []byte("ping")), 0x80, []byte("xt")), uint8(1))
	f.Add(appendMasked(nil, 0x88, []byte("\x03\xe8bye")), uint8(7))
	f.Add([]byte{0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4}, uint8(2))
	f.Add(appendMasked(nil, 0x82, bytes.Repeat([]byte("x"), 70_000)), uint8(255))
	const most = 4096
	read := func(b []byte, piece int) (messages []string, code int) {
		fr := frames{max: most}
		defer fr.release()
		var have []byte
		need := 1
		for {
			for len(have) < need {
				if len(b) == 0 {
					return messages, 0
				}
				n := min(piece, len(b))
				have, b = append(have, b[:n]...), b[n:]
			}
			in, n, more, code := fr.next(have)
			switch {
			case code != 0:
				return messages, int(code)
			case n == 0 && more <= len(have):
				t := "asks for bytes that are there"
				panic(t)
			case n == 0 && more > most+14:
				panic("asks for more than a message")
			case cap(fr.part) > 4*most+64<<10:
				panic("keeps too much")
			case n == 0:
				need = more
				continue
			}
			if in.op != opNothing {
				if in.op == ws.OpText && !utf8.Valid(in.payload) {
					panic("text that is none")
				}
				messages = append(messages, string(rune(in.op))+string(in.payload))
			}
			have, need = have[n:], 1
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, piece uint8) {
		all, code := read(bytes.Clone(b), len(b)+1)
		cut, cutCode := read(bytes.Clone(b), int(piece)+1)
		if code != cutCode || len(all) != len(cut) {
			t.Fatalf("whole: %d messages, %d; cut: %d messages, %d", len(all), code, len(cut), cutCode)
		}
		for i := range all {
			if all[i] != cut[i] {
				t.Fatalf("message %d differs", i)
			}
		}
	})
}

// FuzzHead feeds the reader of request heads: it finds the same end however the bytes arrive, does not panic, and what
// it takes for an upgrade is one that net/http would take for a request.
func FuzzHead(f *testing.F) {
	f.Add([]byte("GET /connect/x?token=y HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nOrigin: null\r\n\r\n"))
	f.Add([]byte("POST /a HTTP/1.0\nContent-Length: 5\n\nhello"))
	f.Add([]byte("GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n"))
	f.Add([]byte("\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		b = b[:min(len(b), maxHead)]
		n := headEnd(b, 0)
		for i := 1; i <= len(b) && i < 600; i++ { // byte by byte
			if m := headEnd(b[:i], i-1); m > 0 {
				if m != n {
					t.Fatalf("the end is at %d, or at %d", n, m)
				}
				break
			}
		}
		if n == 0 {
			return
		}
		var h head
		if status := h.parse(b[:n]); status != http.StatusOK {
			return
		}
		if len(h.method) == 0 || len(h.path)+len(h.query) == 0 || bytes.ContainsAny(h.path, " \r\n") {
			t.Fatalf("taken: %q %q", h.method, h.path)
		}
		findRoute(h.path)
		urlToken(h.query)
	})
}
