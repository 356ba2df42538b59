package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"
)

// profile gives a contender one more turn, which does not count, and writes the coordinator's CPU profile of it to the
// file of --profile.
func (b *bench) profile(ctx context.Context, c *contender, one func(ctx context.Context, c *contender) (Cell, error)) error {
	if b.o.Profile == "" {
		return nil
	}
	if c.admin == "" {
		return errors.New("profile: the coordinator's admin port is not known (--admin)")
	}
	b.say("one more turn, for the profile")
	files := map[string]string{c.admin: b.o.Profile}
	if c.owner != "" {
		files[c.owner] = b.o.Profile + ".owner"
	}
	fetched := make(chan error, len(files))
	profiled := *c
	profiled.meter = &startMeter{meter: c.meter, start: sync.OnceFunc(func() {
		for admin, file := range files {
			go func() { fetched <- fetchProfile(ctx, admin, b.o.Duration, file) }()
		}
	})}
	if _, err := one(ctx, &profiled); err != nil {
		return named("profile", err)
	}
	for _, file := range files {
		if err := <-fetched; err != nil {
			return named("profile", err)
		}
		b.note("CPU profile of the coordinator in %s: read it with go tool pprof", file)
	}
	return nil
}

// startMeter does something when it is read first, which is when the warm-up is over.
type startMeter struct {
	meter
	start func()
}

func (m *startMeter) read(ctx context.Context) (usage, error) {
	m.start()
	return m.meter.read(ctx)
}

func fetchProfile(ctx context.Context, admin string, d time.Duration, file string) error {
	ctx, cancel := context.WithTimeout(ctx, d+startLimit)
	defer cancel()
	seconds := strconv.Itoa(max(int(d.Seconds()), 1))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, admin+"/debug/pprof/profile?seconds="+seconds, nil)
	if err != nil {
		return err
	}
	var client http.Client
	defer client.CloseIdleConnections()
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("HTTP %d (was the coordinator started with --pprof?)", res.StatusCode)
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, res.Body)
	return errors.Join(err, f.Close())
}
