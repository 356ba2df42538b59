package edge

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Config is what an operator may set. Times are durations on the monotonic clock.
type Config struct {
	// Region is this node's region; new states prefer instances of it.
	Region string
	// OpenApps takes any secret as an app of its own ("--apps open"); otherwise only apps of the table are served.
	OpenApps bool
	// InstanceWait is how long a joining client waits for an instance before it is closed with 4001.
	InstanceWait time.Duration
	// Hold is how long open sessions wait when no instance of their app is left.
	Hold time.Duration
	// Grace and LegacyGrace are how long a broken tunnel's instance keeps its states.
	Grace, LegacyGrace time.Duration
	// TunnelStall cuts a backend that does not read.
	TunnelStall time.Duration
	// AcceptWait is how long a native instance may take to accept a created state.
	AcceptWait time.Duration
	// TentativeTTL is how long the tentative row of a state without sessions stays.
	TentativeTTL time.Duration
	// DeniedTTL is how long a state that its instance turned away answers 4000 without a proposal.
	DeniedTTL time.Duration
	// PlainFrom lists the networks from which a tunnel without TLS is taken.
	PlainFrom []netip.Prefix
	// UnknownRate limits first connections to states that the table does not know.
	UnknownRate UnknownRate
	// LiftLoopback takes UnknownRate from clients, and TunnelsPerAddr from backends, on loopback addresses (dev, bench).
	LiftLoopback bool
	// MaxTunnels bounds the tunnels, registered or not, of this node.
	MaxTunnels int
	// TunnelsPerApp bounds the registered tunnels of one app, TunnelsPerAddr those from one address (IPv4 address or IPv6
	// /64) of apps that no operator listed.
	TunnelsPerApp, TunnelsPerAddr int
	// MaxLobbies bounds the lobbies remembered, over all apps. Beyond it those whose states are gone are forgotten, then
	// the oldest of the app that has most.
	MaxLobbies int
}

// UnknownRate are token buckets, in placements per second with bursts of four seconds' worth. Zero lifts a limit.
type UnknownRate struct {
	PerAddr, PerUser, PerApp float64
}

// Default returns the values that design and docs/configuration.md name.
func Default() Config {
	return Config{
		InstanceWait: 5 * time.Second,
		Hold:         30 * time.Second,
		Grace:        time.Second,
		LegacyGrace:  3 * time.Second,
		TunnelStall:  10 * time.Second,
		AcceptWait:   5 * time.Second,
		TentativeTTL: time.Minute,
		DeniedTTL:    5 * time.Second,
		PlainFrom:    PrivateRanges(),
		UnknownRate:  UnknownRate{PerAddr: 20, PerUser: 5, PerApp: 500},
		MaxTunnels:   10_000,
		MaxLobbies:   100_000,

		TunnelsPerApp: 5_000, TunnelsPerAddr: 256,
	}
}

// idleLimit is the time after which a client that nothing is read from would be taken for dead; a hold must end before.
const idleLimit = 45 * time.Second

// Validate says what is wrong with c.
func (c *Config) Validate() error {
	for _, d := range []struct {
		name string
		v    time.Duration
	}{
		{"instance-wait", c.InstanceWait},
		{"hold", c.Hold},
		{"grace", c.Grace},
		{"legacy-grace", c.LegacyGrace},
		{"tunnel-stall", c.TunnelStall},
		{"accept wait", c.AcceptWait},
		{"tentative row time", c.TentativeTTL},
		{"denied time", c.DeniedTTL},
	} {
		if d.v <= 0 {
			return fmt.Errorf("%s must be above zero, not %v", d.name, d.v)
		}
	}
	if c.Hold >= idleLimit {
		return fmt.Errorf("hold is %v, but must be below the idle limit of %v", c.Hold, idleLimit)
	}
	if c.MaxTunnels <= 0 || c.MaxLobbies <= 0 || c.TunnelsPerApp <= 0 || c.TunnelsPerAddr <= 0 {
		return errors.New("limits of tunnels and lobbies must be above zero")
	}
	return nil
}

// PrivateRanges returns loopback, RFC 1918, RFC 4193, link-local and shared address space (RFC 6598): where a tunnel
// without TLS is taken from by default.
func PrivateRanges() []netip.Prefix {
	var out []netip.Prefix
	for _, s := range []string{
		"127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "100.64.0.0/10",
		"::1/128", "fc00::/7", "fe80::/10",
	} {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}
