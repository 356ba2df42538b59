package tunnel

import (
	"errors"
	"log/slog"
	"time"
)

// Config is how tunnels behave. Both ends use it.
type Config struct {
	// Log takes what is worth a line; nil discards. Nothing is logged per frame.
	Log *slog.Logger
	// Counters counts; nil counts nothing.
	Counters *Counters
	// Now is the clock of what is measured; its monotonic reading is used.
	Now func() time.Time
	// RegisterTimeout bounds the time from Accept or Attach to a whole
	// registration, or its answer.
	RegisterTimeout time.Duration
	// MaxSkip is how many bytes of frames a legacy tunnel may send before its
	// registration.
	MaxSkip int
	// MaxMessage is the largest payload either way, in bytes. At most 16 MiB
	// less 2 KiB: the length of a legacy frame begins with 0x00.
	MaxMessage int
	// MaxAssembly bounds the unfinished native messages of one tunnel, in bytes.
	MaxAssembly int
	// MaxHolds is how many states a native registration may hold.
	MaxHolds int
	// Known says whether a native registration, all of it but what it holds, is of an app that is served: a stranger's
	// states are not read, and whoever called Accept refuses him. nil takes everybody for known.
	Known func(*Registration) bool
	// StateMark and TunnelMark are what one state and one tunnel may have
	// queued before Line.Admit says to wait, in bytes.
	StateMark, TunnelMark int
	// LegacyIdle ends a legacy tunnel that has sent a PING and then nothing.
	LegacyIdle time.Duration
	// Heartbeat is the time between two native heartbeats; a native tunnel is
	// dead when the beats of Silence have passed without a byte.
	Heartbeat, Silence time.Duration
	// Linger bounds how long a closed tunnel may take to write what is queued.
	Linger time.Duration
}

const (
	// maxLegacyFrame is the first legacy length that is refused.
	maxLegacyFrame = 16 << 20
	// legacyHead is more than the head of any legacy frame with its ids.
	legacyHead = 2 << 10
)

// Default returns the configuration that the documentation speaks of.
func Default() Config {
	return Config{
		Log:             slog.New(slog.DiscardHandler),
		Now:             time.Now,
		RegisterTimeout: 10 * time.Second,
		MaxSkip:         16 << 20,
		MaxMessage:      maxLegacyFrame - legacyHead,
		MaxAssembly:     64 << 20,
		MaxHolds:        1 << 20,
		StateMark:       256 << 10,
		TunnelMark:      8 << 20,
		LegacyIdle:      35 * time.Second,
		Heartbeat:       5 * time.Second,
		Silence:         15 * time.Second,
		Linger:          2 * time.Second,
	}
}

// Validate says what is wrong with the configuration.
func (c *Config) Validate() error {
	switch {
	case c.Now == nil:
		return errors.New("tunnel: no clock")
	case c.RegisterTimeout <= 0 || c.LegacyIdle <= 0 || c.Heartbeat <= 0 || c.Linger <= 0:
		return errors.New("tunnel: times must be above zero")
	case c.Silence < 2*c.Heartbeat:
		return errors.New("tunnel: silence must be at least two heartbeats")
	case c.MaxMessage <= 0 || c.MaxMessage > maxLegacyFrame-legacyHead:
		return errors.New("tunnel: the largest message must be between 1 byte and 16 MiB less 2 KiB")
	case c.MaxAssembly < c.MaxMessage:
		return errors.New("tunnel: unfinished messages must have room for one of the largest")
	case c.StateMark <= 0 || c.TunnelMark < c.StateMark:
		return errors.New("tunnel: a state's mark must be above zero and at most the tunnel's")
	case c.MaxSkip < 0 || c.MaxHolds < 0:
		return errors.New("tunnel: limits must not be negative")
	}
	return nil
}
