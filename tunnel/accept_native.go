package tunnel

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"

	"github.com/trunkline-edge/trunkline/pipe"
	"github.com/trunkline-edge/trunkline/wire"
)

// window is the payload of one state that each end takes before it gives
// credit; minWindow is the least that an end may offer, so that the half that a
// large message holds and the quarter not yet returned still leave a fragment.
const (
	window    = 1 << 20
	minWindow = 8 * wire.MaxFragment
)

// readFrame waits for the next whole frame. It aliases r's buffer until done is
// called, which drops it.
func readFrame(r *pipe.Reader, f *wire.Frame) (done func(), err error) {
	for need := 1; ; {
		b, err := r.Fill(need)
		if err != nil {
			return nil, err
		}
		body, n, err := wire.SplitFrame(b, wire.MaxFrame)
		if err != nil {
			return nil, frameFault(err)
		}
		if n == 0 {
			need = len(b) + 1
			continue
		}
		if err := f.Decode(body); err != nil {
			return nil, frameFault(err)
		}
		return func() { r.Discard(n) }, nil
	}
}

// frameFault names the reason for an error of package wire.
func frameFault(err error) *Error {
	switch {
	case errors.Is(err, wire.ErrTooBig):
		return fail(ReasonLength, err)
	case errors.Is(err, wire.ErrType):
		return fail(ReasonType, err)
	}
	return fail(ReasonFrame, err)
}

// readHello reads the hello of the other end.
func readHello(r *pipe.Reader) (wire.Hello, error) {
	for need := 1; ; {
		b, err := r.Fill(need)
		if err != nil {
			return wire.Hello{}, err
		}
		hello, n, err := wire.ParseHello(b)
		switch {
		case errors.Is(err, wire.ErrMagic):
			return wire.Hello{}, fail(ReasonSniff, err)
		case err != nil:
			return wire.Hello{}, fail(ReasonVersion, err)
		case n > 0:
			r.Discard(n)
			return hello, nil
		}
		need = len(b) + 1
	}
}

// acceptNative reads hello, Register and Hold frames; Confirm answers them. A
// version that is not spoken is answered here.
func acceptNative(nc net.Conn, r *pipe.Reader, cfg Config) (*Registration, Tunnel, error) {
	theirs, err := readHello(r)
	if err != nil {
		return nil, nil, err
	}
	c := newConn(Native, nc, r, cfg)
	hello, err := wire.OurHello().Answer(theirs)
	if err != nil {
		t := newNative(c, wire.OurHello(), window)
		t.sayClose(wire.CodeVersion.String())
		return nil, nil, fail(ReasonVersion, err)
	}
	reg, credit, err := readRegister(r, &cfg)
	if err != nil {
		t := newNative(c, hello, window)
		t.sayClose(refusalCode(err).String())
		return nil, nil, err
	}
	return reg, newNative(c, hello, credit), nil
}

func refusalCode(err error) wire.Code {
	var e *Error
	if errors.As(err, &e) && e.Reason == ReasonRegistration {
		return wire.CodeBadRegistration
	}
	return wire.CodeProtocol
}

func readRegister(r *pipe.Reader, cfg *Config) (*Registration, int, error) {
	var f wire.Frame
	done, err := readFrame(r, &f)
	if err != nil {
		return nil, 0, err
	}
	if f.Type != wire.Register {
		return nil, 0, fail(ReasonType, fmt.Errorf("%v before register", f.Type))
	}
	var body wire.RegisterBody
	if err := body.Decode(f.Payload); err != nil {
		return nil, 0, fail(ReasonRegistration, err)
	}
	if len(body.Login) > 0 && !json.Valid(body.Login) {
		return nil, 0, fail(ReasonRegistration, errors.New("the login configuration is no JSON"))
	}
	if body.Credit < minWindow {
		return nil, 0, fail(ReasonRegistration, fmt.Errorf("a window of %d bytes is too small", body.Credit))
	}
	if int(body.Held) > cfg.MaxHolds {
		return nil, 0, fail(ReasonRegistration, fmt.Errorf("%d held states are too many", body.Held))
	}
	reg := &Registration{
		Kind: Native, Secret: Secret(body.Secret), StoreID: string(body.StoreID), Named: true,
		Incarnation: body.Incarnation, Region: string(body.Region), Capacity: body.Capacity,
	}
	if len(body.Login) > 0 {
		reg.Login = append(reg.Login, body.Login...)
	}
	credit, held := int(min(body.Credit, 64<<20)), int(body.Held)
	done()
	if cfg.Known != nil && !cfg.Known(reg) {
		return reg, credit, nil
	}
	reg.Holds, err = readHolds(r, held)
	return reg, credit, err
}

// readHolds reads Hold frames until they have named n states.
func readHolds(r *pipe.Reader, n int) ([]Held, error) {
	var holds []Held
	var batch []wire.Held
	for len(holds) < n {
		var f wire.Frame
		done, err := readFrame(r, &f)
		if err != nil {
			return nil, err
		}
		if f.Type != wire.Hold {
			return nil, fail(ReasonType, fmt.Errorf("%v within the held states", f.Type))
		}
		if batch, err = wire.DecodeHolds(batch[:0], f.Payload, n-len(holds)); err != nil {
			return nil, fail(ReasonRegistration, err)
		}
		for _, h := range batch {
			holds = append(holds, Held(h))
		}
		done()
	}
	return holds, nil
}
