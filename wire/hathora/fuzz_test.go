package hathora

import (
	"bytes"
	"encoding/json"
	"reflect"
	"runtime"
	"testing"
	"unicode/utf8"
)

// withinMemory runs f and fails if it allocates more than twice its input and 64 KiB. Other goroutines of the test
// binary count too, so only what ten runs in a row exceed is blamed on f.
func withinMemory(t *testing.T, input int, f func()) {
	t.Helper()
	limit := uint64(2*input + 64<<10)
	var before, after runtime.MemStats
	for range 10 {
		runtime.ReadMemStats(&before)
		f()
		runtime.ReadMemStats(&after)
		if after.TotalAlloc-before.TotalAlloc <= limit {
			return
		}
	}
	t.Fatalf("%d bytes allocated for %d bytes of input", after.TotalAlloc-before.TotalAlloc, input)
}

func FuzzStoreFrame(f *testing.F) {
	for _, g := range append(toStore, fromStore...) {
		f.Add(unhex(g.hex))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var from, to StoreFrame
		var fromErr, toErr error
		var n int
		withinMemory(t, len(data), func() {
			var body []byte
			var err error
			if body, n, err = SplitFrame(data, MaxFrame); err != nil {
				n = 0
			}
			from, fromErr = DecodeFromStore(body)
			to, toErr = DecodeToStore(body)
		})
		if n == 0 {
			return
		}
		if fromErr == nil {
			if again, err := DecodeFromStore(writeFromStore(from)[4:]); err != nil || !same(again, from) {
				t.Errorf("%+v came back as %+v, %v", from, again, err)
			}
		}
		if toErr == nil {
			if again, err := DecodeToStore(writeToStore(to)[4:]); err != nil || !same(again, to) {
				t.Errorf("%+v came back as %+v, %v", to, again, err)
			}
		}
	})
}

func writeFromStore(f StoreFrame) []byte {
	switch f.Type {
	case SendMessage:
		return AppendSendMessage(nil, f.State, string(f.User), f.Data)
	case CloseConnection:
		return AppendCloseConnection(nil, f.State, string(f.User))
	}
	return AppendPing(nil)
}

func writeToStore(f StoreFrame) []byte {
	switch f.Type {
	case NewState:
		return AppendNewState(nil, f.State, string(f.User), f.Data)
	case Subscribe:
		return AppendSubscribe(nil, f.State, string(f.User))
	case Unsubscribe:
		return AppendUnsubscribe(nil, f.State, string(f.User))
	case Message:
		return AppendMessage(nil, f.State, string(f.User), f.Data)
	}
	return AppendConnected(nil, string(f.User))
}

func FuzzRegistration(f *testing.F) {
	f.Add([]byte(goldenRegistration))
	f.Add([]byte(`{"appSecret":"}{\"\\","storeId":"{"}` + "\x00\x00\x00\x01\x02"))
	f.Add([]byte("bare-secret"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var n int
		var err error
		withinMemory(t, len(data), func() { n, err = ScanRegistration(data) })
		var pieces RegistrationScanner
		half, _ := pieces.Scan(data[:len(data)/2])
		if whole, wholeErr := pieces.Scan(data); half == 0 && (whole != n || wholeErr != err) {
			t.Fatalf("in two pieces %d, %v; at once %d, %v", whole, wholeErr, n, err)
		}
		dec := json.NewDecoder(bytes.NewReader(data))
		var object map[string]json.RawMessage
		if len(data) > 0 && data[0] == '{' && len(data) <= MaxRegistration && dec.Decode(&object) == nil && dec.InputOffset() != int64(n) {
			t.Fatalf("the JSON ends at %d, the scanner says %d", dec.InputOffset(), n)
		}
		if n == 0 || err != nil {
			return
		}
		var r Registration
		withinMemory(t, n, func() { r, err = ParseRegistration(data[:n]) })
		if err != nil {
			return
		}
		enc, err := r.Append(nil)
		if err != nil {
			t.Fatalf("%+v cannot be written: %v", r, err)
		}
		again, err := ParseRegistration(enc)
		if err != nil {
			t.Fatalf("%s cannot be read: %v", enc, err)
		}
		r.AuthInfo, again.AuthInfo = compact(r.AuthInfo), compact(again.AuthInfo)
		if !reflect.DeepEqual(again, r) {
			t.Errorf("%+v came back as %+v", r, again)
		}
	})
}

func compact(raw json.RawMessage) json.RawMessage {
	var b bytes.Buffer
	if raw == nil || json.Compact(&b, raw) != nil {
		return nil
	}
	return b.Bytes()
}

// What a client says first, on either port.
func FuzzFirstMessage(f *testing.F) {
	f.Add(true, []byte(token))
	f.Add(false, unhex("00"+tokenHx+"0123456789abcdef"))
	f.Add(false, unhex("01"+tokenHx+"0123456789abcdef"))
	f.Add(false, unhex("00"+tokenHx))
	f.Add(false, []byte(`{"stateId":"mf9g063v08f","token":"a.b.c"}`))
	f.Add(false, unhex(tokenHx+"03617070 0123456789abcdef 00000003006869"))
	f.Add(false, unhex("822c"))
	f.Add(false, unhex("0000000101"))
	f.Fuzz(func(t *testing.T, text bool, data []byte) {
		var first First
		var connect Connect
		var firstErr, connectErr error
		withinMemory(t, len(data), func() {
			first, firstErr = ParseFirst(text, data)
			connect, connectErr = ParseConnect(data)
		})
		if firstErr == nil {
			again, err := ParseFirst(text, first.Append([]byte{}))
			if err != nil || !reflect.DeepEqual(again, first) {
				t.Errorf("%+v came back as %+v, %v", first, again, err)
			}
		}
		if !text {
			checkTCP(t, data)
		}
		if connectErr != nil {
			return
		}
		if !utf8.ValidString(connect.State + connect.Token) {
			t.Errorf("%+v is not UTF-8", connect)
		}
		enc, err := connect.Append(nil)
		if err != nil || len(enc) > MaxConnect {
			return // what needs escaping grows
		}
		if again, err := ParseConnect(enc); err != nil || again != connect {
			t.Errorf("%+v came back as %+v, %v", connect, again, err)
		}
	})
}

// checkTCP reads what a client of port 7148 may write: handshake, frames, numbers.
func checkTCP(t *testing.T, data []byte) {
	t.Helper()
	var h TCPHandshake
	var n int
	var err error
	withinMemory(t, len(data), func() { h, n, err = ParseTCPHandshake(data) })
	if err == nil && n > 0 {
		if n > MaxTCPHandshake {
			t.Errorf("a handshake of %d bytes", n)
		}
		enc := h.Append(nil)
		if again, m, err := ParseTCPHandshake(enc); err != nil || m != len(enc) || !reflect.DeepEqual(again, h) {
			t.Errorf("%+v came back as %+v, %v", h, again, err)
		}
		data = data[n:]
	}
	if body, n, err := SplitFrame(data, 1<<20); err == nil && n > 0 {
		if !bytes.Equal(AppendServerFrame(nil, body), data[:n]) {
			t.Errorf("%x was read as the message %x", data[:n], body)
		}
		if kind, payload, err := DecodeClientFrame(body); err == nil && kind == ClientData && !bytes.Equal(AppendClientData(nil, payload), data[:n]) {
			t.Errorf("%x was read as the data %x", data[:n], payload)
		}
	}
	if v, n, err := Varint(data); err == nil && n > 0 {
		if again, _, err := Varint(AppendVarint(nil, v)); again != v || err != nil {
			t.Errorf("%d came back as %d, %v", v, again, err)
		}
	}
}
