package control

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
)

func appendRequest(r request) []byte { return append(appendRequestHead(nil, r), r.body...) }

func appendAnswer(a answer) []byte { return append(appendAnswerHead(nil, a), a.body...) }

func reader(b []byte) *bufio.Reader { return bufio.NewReader(bytes.NewReader(b)) }

func takeRequest(r *bufio.Reader, limit int) (request, error) {
	req, n, err := readRequest(r, limit)
	if err == nil {
		req.body, err = readBody(r, n)
	}
	return req, err
}

// What nodes of other versions say and expect.
func TestFramesHaveTheseBytes(t *testing.T) {
	for name, given := range map[string]struct {
		bytes []byte
		want  string
	}{
		"request":  {appendRequest(request{0x0102030405060708, Propose, 1500, []byte("body")}), "00000011 0102030405060708 03 000005dc 626f6479"},
		"beat":     {appendRequest(request{verb: beat}), "0000000d 0000000000000000 fe 00000000"},
		"cancel":   {appendRequest(request{id: 7, verb: cancel}), "0000000d 0000000000000007 ff 00000000"},
		"answer":   {appendAnswer(answer{9, done, []byte("yes")}), "0000000c 0000000000000009 00 796573"},
		"failed":   {appendAnswer(answer{9, failed, encodeError(&Error{100, "no"})}), "0000000d 0000000000000009 01 0064 6e6f"},
		"life":     {appendAnswer(answer{status: alive}), "00000009 0000000000000000 02"},
		"greeting": {appendAnswer(answer{status: greeting, body: terms{1 << 20, 256}.encode()}), "00000010 0000000000000000 03 01 00100000 0100"},
	} {
		if got, want := hex.EncodeToString(given.bytes), strings.ReplaceAll(given.want, " ", ""); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	for v, want := range map[Verb]uint8{
		Enrol: 1, Enter: 2, Propose: 3, Renew: 4, Probe: 5, Logins: 6, Keys: 7, Status: 8, Leave: 9, Authority: 10, Gossip: 11,
	} {
		if uint8(v) != want || strings.HasPrefix(v.String(), "verb ") {
			t.Errorf("%s has the number %d, had %d", v, uint8(v), want)
		}
	}
	if Verb(0).String() != "verb 0" || Verb(77).String() != "verb 77" {
		t.Error("an unknown verb has a name")
	}
}

func TestMalformedFramesAreRefused(t *testing.T) {
	const limit = 100
	largest := appendRequest(request{verb: Status, body: make([]byte, limit)})
	if _, err := takeRequest(reader(largest), limit); err != nil {
		t.Errorf("the largest: %v", err)
	}
	for name, b := range map[string][]byte{
		"one too large":   appendRequest(request{verb: Status, body: make([]byte, limit+1)}),
		"4 GiB":           {0xff, 0xff, 0xff, 0xff, 1},
		"a negative":      {0x80, 0, 0, 0, 1},
		"no head":         {0, 0, 0, requestHead - 1, 1},
		"nothing":         {0, 0, 0, 0},
		"a beat's body":   appendRequest(request{verb: beat, body: []byte("x")}),
		"a cancel's body": appendRequest(request{verb: cancel, body: []byte("x")}),
	} {
		if _, err := takeRequest(reader(b), limit); !errors.Is(err, errFrame) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, b := range map[string][]byte{
		"4 GiB":            {0xff, 0xff, 0xff, 0xff, 1},
		"no head":          {0, 0, 0, answerHead - 1, 1},
		"an unknown state": appendAnswer(answer{status: greeting + 1}),
	} {
		if _, err := readAnswer(reader(b), limit); !errors.Is(err, errFrame) {
			t.Errorf("answer, %s: %v", name, err)
		}
	}
	for name, a := range map[string]answer{
		"an answer": {status: done, body: terms{1, 1}.encode()}, "a call": {1, greeting, terms{1, 1}.encode()},
		"short": {status: greeting, body: []byte{1, 0, 0}}, "no calls": {status: greeting, body: terms{1, 0}.encode()},
	} {
		if _, err := decodeTerms(a); !errors.Is(err, errFrame) {
			t.Errorf("greeting, %s: %v", name, err)
		}
	}
	if _, err := decodeTerms(answer{status: greeting, body: append(terms{1, 1}.encode(), "more of a later version"...)}); err != nil {
		t.Errorf("a longer greeting: %v", err)
	}
	if err := decodeError([]byte{1}); !errors.Is(err, errFrame) {
		t.Errorf("half a code: %v", err)
	}
	for n := range largest {
		want := io.ErrUnexpectedEOF
		if n == 0 {
			want = io.EOF
		}
		if _, err := takeRequest(reader(largest[:n]), limit); !errors.Is(err, want) {
			t.Fatalf("%d bytes of a frame: %v", n, err)
		}
	}
}

func TestAbsurdLengthsTakeNoMemory(t *testing.T) {
	r, src := bufio.NewReaderSize(nil, 64), bytes.NewReader(nil)
	absurd := []byte{0x00, 0x10, 0x00, 0x0e, 0, 0, 0, 0, 0, 0, 0, 1, 8, 0, 0, 0, 0} // 1 MiB and one
	got := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			src.Reset(absurd)
			r.Reset(src)
			if _, err := takeRequest(r, 1<<20); err == nil {
				b.Fatal("it was taken")
			}
		}
	})
	if got.AllocedBytesPerOp() > 512 {
		t.Errorf("%d bytes for a frame that is refused", got.AllocedBytesPerOp())
	}
}

func TestPatienceIsNeverSaidAsNone(t *testing.T) {
	for d, want := range map[time.Duration]uint32{0: 1, time.Microsecond: 1, time.Second: 1000, 1e6 * time.Hour: 1<<32 - 1} {
		if got := milliseconds(d); got != want {
			t.Errorf("%v is %d ms", d, got)
		}
	}
}

// One target for both directions: what is read is written as it was, and nothing above the limit is taken.
func FuzzControl(f *testing.F) {
	f.Add(false, appendRequest(request{1, Propose, 1500, []byte("body")}))
	f.Add(false, []byte{0xff, 0xff, 0xff, 0xff})
	f.Add(true, appendAnswer(answer{9, failed, encodeError(errors.New("no"))}))
	f.Add(true, appendAnswer(answer{status: greeting, body: terms{1 << 20, 256}.encode()}))
	const limit = 1 << 10
	f.Fuzz(func(t *testing.T, answers bool, b []byte) {
		if !answers {
			req, err := takeRequest(reader(b), limit)
			if again := appendRequest(req); err == nil && (len(req.body) > limit || !bytes.HasPrefix(b, again)) {
				t.Errorf("%x became %+v, which is %x", b, req, again)
			}
			return
		}
		a, err := readAnswer(reader(b), limit)
		if err != nil {
			return
		}
		if again := appendAnswer(a); len(a.body) > limit || !bytes.HasPrefix(b, again) {
			t.Errorf("%x became %+v, which is %x", b, a, again)
		}
		if said, err := decodeTerms(a); err == nil && !bytes.HasPrefix(a.body, said.encode()) {
			t.Errorf("a greeting %x became %+v", a.body, said)
		}
		var e *Error
		if err := decodeError(a.body); errors.As(err, &e) && !bytes.HasPrefix(a.body, encodeError(e)[:2]) {
			t.Errorf("an error %x became %+v", a.body, e)
		}
	})
}
