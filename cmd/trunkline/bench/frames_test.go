package bench

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/gobwas/ws"
)

// The frames are read back with gobwas, which knows nothing of ours.
func TestFramesAgreeWithGobwas(t *testing.T) {
	for _, size := range []int{0, 1, 125, 126, 127, 65535, 65536, 70000} {
		payload := bytes.Repeat([]byte{7, 1, 5}, size/3+1)[:size]
		for _, client := range []bool{false, true} {
			b := appendServerFrame(nil, ws.OpBinary, payload)
			if client {
				b = appendClientFrame(nil, ws.OpBinary, payload)
			}
			want, err := readFrame(bytes.NewReader(b))
			if err != nil {
				t.Fatal(err)
			}
			if want.Header.Masked {
				ws.Cipher(want.Payload, want.Header.Mask, 0)
			}
			if !bytes.Equal(want.Payload, payload) || !want.Header.Fin || want.Header.Masked != client {
				t.Fatalf("size %d client %v: gobwas reads %+v", size, client, want.Header)
			}
			for cut := range b {
				if cut > 20 && cut < len(b)-20 {
					continue
				}
				if _, n, err := splitFrame(b[:cut], size); n != 0 || err != nil {
					t.Fatalf("size %d cut %d: n %d, %v", size, cut, n, err)
				}
			}
			f, n, err := splitFrame(append(b, 0xff), size)
			if err != nil || n != len(b) || !f.fin || f.op != ws.OpBinary || f.masked != client || len(f.payload) != size {
				t.Fatalf("size %d client %v: %+v, %d, %v", size, client, f, n, err)
			}
		}
	}
}

func TestFrameAboveTheLimit(t *testing.T) {
	b := appendServerFrame(nil, ws.OpBinary, make([]byte, 200))
	if _, _, err := splitFrame(b, 199); !errors.Is(err, errFrameTooBig) {
		t.Fatalf("error %v", err)
	}
	huge := []byte{0x82, 127, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	if _, _, err := splitFrame(huge, 1<<20); !errors.Is(err, errFrameTooBig) {
		t.Fatalf("error %v", err)
	}
}

func TestClientFramesAreWholeMessages(t *testing.T) {
	payload := []byte("payload of the run")
	c := newClientFrames(payload, 5)
	r := bytes.NewReader(c.first(3))
	for range 3 {
		f, err := readFrame(r)
		if err != nil {
			t.Fatal(err)
		}
		ws.Cipher(f.Payload, f.Header.Mask, 0)
		if !bytes.Equal(f.Payload, payload) {
			t.Fatalf("payload %q", f.Payload)
		}
	}
	if _, err := r.ReadByte(); err != io.EOF {
		t.Fatal("more than three frames")
	}
}
