package bench

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/trunkline-edge/trunkline/cmd/trunkline/child"
)

// startLimit is how long a child may take until it is ready.
const startLimit = 20 * time.Second

// maxMessage bounds what a connection of the generator takes; the size of a run's messages is added.
const maxMessage = 64 << 10

// lab starts the processes that a benchmark compares, in a temporary folder of its own.
type lab struct {
	group *child.Group
	dir   string
	count int
}

// floorReady is the line a floor prints.
type floorReady struct {
	Address     string `json:"address"`
	Certificate []byte `json:"certificate,omitempty"` // DER
}

// contender is one server under test, with all that is needed to load it.
type contender struct {
	Name     string
	endpoint endpoint
	rooms    *rooms // nil: a server without rooms
	meter    meter
	admin    string // URL, may be empty
	owner    string // admin URL of the node with the tunnel, where that is another one
}

// connect opens n connections and brings them to where messages flow.
func (c *contender) connect(ctx context.Context, n, size int) ([]*conn, error) {
	e := c.endpoint
	e.max = maxMessage + size
	if c.rooms != nil {
		greeting, err := c.rooms.seats(ctx, n)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.Name, err)
		}
		e.greeting = greeting
	}
	conns, err := openAll(ctx, n, e.open)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.Name, err)
	}
	return conns, nil
}

func (l *lab) start(ctx context.Context, c child.Command) (*child.Process, error) {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	return l.group.Start(ctx, c)
}

// startFloor starts the direct server.
func (l *lab) startFloor(ctx context.Context, hub, secure bool) (*contender, error) {
	args := []string{"bench", "child-floor"}
	if hub {
		args = append(args, "--hub")
	}
	if secure {
		args = append(args, "--tls")
	}
	p, err := l.start(ctx, child.Command{Name: "floor", Args: args, Ready: true})
	if err != nil {
		return nil, err
	}
	var ready floorReady
	if err := json.Unmarshal([]byte(p.Line()), &ready); err != nil {
		return nil, fmt.Errorf("start floor: %w", err)
	}
	name := "floor"
	if hub {
		name = "bare hub"
	}
	c := &contender{
		Name: name, meter: processMeter{pid: p.PID()},
		endpoint: endpoint{address: ready.Address, host: ready.Address, path: "/", sources: newSources(ready.Address)},
	}
	if secure {
		cert, err := x509.ParseCertificate(ready.Certificate)
		if err != nil {
			return nil, fmt.Errorf("start floor: %w", err)
		}
		pool := x509.NewCertPool()
		pool.AddCert(cert)
		c.endpoint.tls = &tls.Config{RootCAs: pool, ServerName: "localhost"}
	}
	return c, nil
}

// server is a running coordinator.
type server struct {
	client string // host:port for plain and TLS clients
	tunnel string
	admin  string      // URL, may be empty
	owner  string      // admin URL of the node with the tunnels, where clients come to another one
	secure *tls.Config // nil: not known
	meter  meter
}

// startServer starts a coordinator on free ports.
func (l *lab) startServer(ctx context.Context) (*server, error) {
	d, err := l.group.StartDev(ctx, l.dir, "--pprof", "--log-level", "warn")
	if err != nil {
		return nil, err
	}
	return l.serverOf(d)
}

// serverOf describes a node that was started, with clients and tunnels at the same.
func (l *lab) serverOf(d *child.Dev) (s *server, err error) {
	s = &server{client: d.Client, tunnel: d.Tunnel, admin: "http://" + d.Admin, meter: devMeter(d)}
	if d.CAFile != "" {
		if s.secure, err = serverTLS(d.CAFile, "localhost"); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// devMeter looks at a node's process.
func devMeter(d *child.Dev) meter {
	admin := newAdminMeter("http://" + d.Admin)
	return childMeter{processMeter: processMeter{pid: d.PID()}, admin: &admin}
}

// serverTLS returns a configuration for a server of that name; an empty file means the system's authorities.
func serverTLS(file, name string) (*tls.Config, error) {
	cfg := &tls.Config{ServerName: name}
	if file == "" {
		return cfg, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the server's CA: %w", err)
	}
	cfg.RootCAs = x509.NewCertPool()
	if !cfg.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read the server's CA: no certificate in %s", file)
	}
	return cfg, nil
}

// startBackend starts a backend process and returns the app it serves, which is its own.
func (l *lab) startBackend(ctx context.Context, s *server, cfg backendConfig) (app string, err error) {
	l.count++
	id := strconv.Itoa(l.count)
	if cfg.secret == "" {
		cfg.secret = "trunkline-bench-" + id
	}
	args := []string{"bench", "child-backend", "--tunnel", s.tunnel, "--store-id", "bench-" + id}
	if cfg.broadcast {
		args = append(args, "--broadcast")
	}
	if cfg.native {
		args = append(args, "--native")
	}
	_, err = l.start(ctx, child.Command{
		Name: "backend", Args: args, Env: []string{secretVariable + "=" + cfg.secret}, Ready: true,
	})
	return appOf(cfg.secret), err
}

// secretVariable hands a backend its app secret: a command line is visible to every user of the machine.
const secretVariable = "TRUNKLINE_BENCH_SECRET"

func appOf(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// contender makes a server a contender for one of its apps.
func (s *server) contender(name, app string, perRoom int, secure bool) (*contender, error) {
	e := endpoint{address: s.client, host: s.client, path: "/connect/" + app, sources: newSources(s.client)}
	if secure {
		if s.secure == nil {
			return nil, errors.New("the server's certificate is not known: it has no CA file")
		}
		e.tls = s.secure
	}
	return &contender{
		Name: name, endpoint: e, meter: s.meter, admin: s.admin, owner: s.owner,
		rooms: &rooms{endpoint: &e, app: app, perRoom: perRoom},
	}, nil
}

// freePort finds a port for a program that cannot choose one itself and tell.
func freePort() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer ln.Close()
	_, port, err := net.SplitHostPort(ln.Addr().String())
	return port, err
}

// collect asks a server of ours for a garbage collection, so that memory in use can be told from memory not yet
// given back.
func (s *server) collect(ctx context.Context) error {
	if s.admin == "" {
		return errors.New("no admin port")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.admin+"/debug/pprof/heap?gc=1", nil)
	if err != nil {
		return err
	}
	client := http.Client{Timeout: startLimit}
	defer client.CloseIdleConnections()
	res, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("collect garbage: %w", err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("collect garbage: HTTP %d", res.StatusCode)
	}
	return nil
}
