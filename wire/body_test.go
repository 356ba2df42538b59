package wire

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// body is what all bodies of the handshake can do.
type body interface {
	Append([]byte) []byte
	Decode([]byte) error
}

var goldenBodies = []struct {
	body, empty body
	hex         string
}{
	{
		&RegisterBody{
			Incarnation: streamOf(gStream), Capacity: 100, Held: 2, Credit: 65536,
			Secret: []byte("s3cr3t"), StoreID: []byte("store-1"), Region: []byte("eu"), Login: []byte("{}"),
		},
		&RegisterBody{},
		gStream + " 00000064 00000002 00010000 0006 733363723374 0007 73746f72652d31 0002 6575 0002 7b7d",
	},
	{
		&RegisteredBody{Instance: 515, Gen: 4, HeartbeatMs: 5000, Credit: 65536},
		&RegisteredBody{},
		"0000000000000203 00000004 00001388 00010000",
	},
	{
		&ConnectBody{App: AppIDOf("s3cr3t"), Stream: streamOf(gStream), Next: 9, Seen: 8, State: []byte("mf9g"), Token: []byte("t.o.k")},
		&ConnectBody{},
		"4e738ca5563c06cfd0018299933d58db1dd8bf97f6973dc99bf6cdc64b5550bd " + gStream +
			" 0000000000000009 0000000000000008 0004 6d663967 0005 742e6f2e6b",
	},
	{
		&ConnectedBody{State: gState, Next: 9, Down: 8},
		&ConnectedBody{},
		"0123456789abcdef 0000000000000009 0000000000000008",
	},
}

func TestGoldenBodies(t *testing.T) {
	for _, g := range goldenBodies {
		name := fmt.Sprintf("%T", g.body)
		want := unhex(g.hex)
		if got := g.body.Append([]byte("x")); string(got) != "x"+string(want) {
			t.Errorf("%s: encoded\n %x, want\n %x", name, got[1:], want)
		}
		if err := g.empty.Decode(want); err != nil || !reflect.DeepEqual(g.empty, g.body) {
			t.Errorf("%s: decoded %+v, %v", name, g.empty, err)
		}
		for cut := range want {
			if err := g.empty.Decode(want[:cut]); !errors.Is(err, ErrShort) {
				t.Errorf("%s: %v for the first %d bytes", name, err, cut)
			}
		}
		if err := g.empty.Decode(append(want, 0)); !errors.Is(err, ErrTrailing) {
			t.Errorf("%s: %v for a byte too many", name, err)
		}
	}
}

func TestBodiesRefuseFieldsBeyondTheirLimits(t *testing.T) {
	good := RegisterBody{Secret: make([]byte, MaxSecret), StoreID: make([]byte, MaxStoreID), Region: make([]byte, MaxRegion), Login: make([]byte, MaxLogin), Held: MaxHeld}
	if b := good.Append(nil); good.Check() != nil || len(b) > MaxFragment || good.Decode(b) != nil {
		t.Fatal("a registration at its limits is refused")
	}
	for name, change := range map[string]func(*RegisterBody){
		"secret":   func(b *RegisterBody) { b.Secret = make([]byte, MaxSecret+1) },
		"store id": func(b *RegisterBody) { b.StoreID = make([]byte, MaxStoreID+1) },
		"region":   func(b *RegisterBody) { b.Region = make([]byte, MaxRegion+1) },
		"login":    func(b *RegisterBody) { b.Login = make([]byte, MaxLogin+1) },
		"held":     func(b *RegisterBody) { b.Held = MaxHeld + 1 },
	} {
		bad := good
		change(&bad)
		if err := bad.Check(); !errors.Is(err, ErrTooBig) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, bad := range []RegisterBody{{Secret: []byte("s")}, {StoreID: []byte("s")}} {
		if err := bad.Check(); !errors.Is(err, ErrField) {
			t.Errorf("%+v: %v", bad, err)
		}
		expectPanic(t, func() { bad.Append(nil) })
	}
	connect := ConnectBody{State: bytes.Repeat([]byte("0"), 64), Token: make([]byte, MaxToken)}
	if b := connect.Append(nil); len(b) > MaxFragment || connect.Decode(b) != nil {
		t.Error("a connect at its limits is refused")
	}
	for _, bad := range []ConnectBody{{State: make([]byte, 65)}, {Token: make([]byte, MaxToken+1)}} {
		if err := bad.Check(); !errors.Is(err, ErrTooBig) {
			t.Errorf("a connect beyond its limits: %v", err)
		}
		expectPanic(t, func() { bad.Append(nil) })
	}
}

func expectPanic(t *testing.T, f func()) {
	t.Helper()
	defer func() {
		if r := recover(); r == nil || !strings.HasPrefix(fmt.Sprint(r), "wire: ") {
			t.Errorf("recovered %v, want a panic of wire", r)
		}
	}()
	f()
}

func TestHolds(t *testing.T) {
	held := make([]Held, 2*maxHolds+1)
	for i := range held {
		held[i] = Held{State: StateID(i), Epoch: MakeEpoch(1, uint64(i))}
	}
	b := AppendHolds(nil, held)
	if want := unhex("00008002 16 00 0000000000000000 0000010000000000 0000000000000001 0000010000000001"); !bytes.HasPrefix(b, want) {
		t.Fatalf("begins with %x", b[:len(want)])
	}
	var got []Held
	frames := 0
	for len(b) > 0 {
		body, n, err := SplitFrame(b, MaxFrame)
		var f Frame
		if err != nil || n == 0 || f.Decode(body) != nil || f.Type != Hold {
			t.Fatalf("frame %d: %d, %v, %v", frames, n, err, f.Type)
		}
		if got, err = DecodeHolds(got, f.Payload, len(held)); err != nil {
			t.Fatal(err)
		}
		b = b[n:]
		frames++
	}
	if frames != 3 || !reflect.DeepEqual(got, held) {
		t.Errorf("%d states in %d frames came through", len(got), frames)
	}
	if AppendHolds(nil, nil) != nil {
		t.Error("no state takes a frame")
	}
	if _, err := DecodeHolds(got, make([]byte, heldSize), len(held)); !errors.Is(err, ErrTooBig) {
		t.Errorf("one state more than announced: %v", err)
	}
	for _, size := range []int{0, 1, 15, 17} {
		if _, err := DecodeHolds(nil, make([]byte, size), 9); !errors.Is(err, ErrShort) {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}
