package bench

import (
	"context"
	"sync"

	"github.com/trunkline-edge/trunkline/sdk"
)

// runNativeBackend is the same backend with the Go SDK, as an application would write it. It calls ready when it is
// attached and serves until ctx ends.
func runNativeBackend(ctx context.Context, cfg backendConfig, ready func()) error {
	answer := func(_ *sdk.State, from *sdk.Session, data []byte) { _ = from.Send(data) }
	if cfg.broadcast {
		answer = func(s *sdk.State, _ *sdk.Session, data []byte) { _ = s.Broadcast(data) }
	}
	first := sync.OnceFunc(ready)
	b, err := sdk.NewBackend(sdk.BackendConfig{
		Addrs: []string{cfg.tunnel}, Secret: sdk.Secret(cfg.secret), StoreID: cfg.storeID, Plain: true,
		Login:      &sdk.Login{Anonymous: &sdk.AnonymousLogin{Separator: "-"}},
		OnAttached: func(string) { first() },
	}, sdk.Handlers{
		// A message that cannot be sent belongs to a session that has just left, or to a tunnel that has broken: the
		// generator notices both.
		Message: answer,
	})
	if err != nil {
		return err
	}
	return b.Run(ctx)
}
