package tunnel

import (
	"context"
	"errors"
	"net"
	"os"
	"time"

	"github.com/trunkline-edge/trunkline/pipe"
	"github.com/trunkline-edge/trunkline/wire"
)

// Accept reads the registration of the instance that dialled nc and returns
// what it says together with the tunnel, which then reads nothing until Run.
//
// The first byte tells the kind: '{' or 0x00 legacy, 'T' of "TRK1" native.
// TLS is not looked for: whoever accepts tells it apart before. nc is a
// *pipe.Conn (see [Config.PipeOptions]) or TLS on one, so that writing never
// blocks; any other is put into one. Accept takes nc over: it closes it when it
// fails. Errors are of type *[Error] and have been counted.
func Accept(ctx context.Context, nc net.Conn, cfg Config) (*Registration, Tunnel, error) {
	if pipe.Base(nc) == nil {
		nc = pipe.NewConn(nc, cfg.PipeOptions(0))
	}
	return AcceptReader(ctx, nc, pipe.NewReader(nc, readBuffer), cfg)
}

// AcceptReader is Accept for a connection of which some bytes were read: they
// are in r, which reads nc and is taken over too. nc has to be as Accept says.
func AcceptReader(ctx context.Context, nc net.Conn, r *pipe.Reader, cfg Config) (*Registration, Tunnel, error) {
	if err := cfg.Validate(); err != nil {
		nc.Close()
		return nil, nil, err
	}
	_ = nc.SetReadDeadline(time.Now().Add(cfg.RegisterTimeout))
	stop := context.AfterFunc(ctx, func() { _ = nc.SetReadDeadline(time.Unix(1, 0)) })
	reg, t, err := sniff(nc, r, cfg)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		e := refusal(ctx, err)
		cfg.Counters.refuse(e.Reason)
		r.Close()
		nc.Close()
		return nil, nil, e
	}
	_ = nc.SetReadDeadline(time.Time{})
	cfg.Counters.accept(reg.Kind)
	return reg, t, nil
}

// refusal makes an Error of why a registration failed.
func refusal(ctx context.Context, err error) *Error {
	var e *Error
	switch {
	case errors.As(err, &e):
		return e
	case ctx.Err() != nil:
		return fail(ReasonContext, context.Cause(ctx))
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fail(ReasonTimeout, nil)
	}
	return fail(ReasonPeer, err)
}

// sniff tells the kind by the first byte and reads the registration.
func sniff(nc net.Conn, r *pipe.Reader, cfg Config) (*Registration, Tunnel, error) {
	b, err := r.Fill(1)
	if err != nil {
		return nil, nil, err
	}
	switch first := b[0]; {
	case first == '{' || first == 0:
		reg, err := readLegacyRegistration(r, &cfg)
		if err != nil {
			return nil, nil, err
		}
		return reg, newLegacy(newConn(Legacy, nc, r, cfg)), nil
	case first == wire.Magic[0]:
		return acceptNative(nc, r, cfg)
	case first > ' ' && first < 0x7f:
		return nil, nil, fail(ReasonBareText, nil)
	}
	return nil, nil, fail(ReasonSniff, nil)
}
