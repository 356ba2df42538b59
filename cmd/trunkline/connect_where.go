package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/trunkline-edge/trunkline/admin"
	"github.com/trunkline-edge/trunkline/sdk"
)

// configure finds out where to connect, with what token and trusting whom.
func (c *connectCommand) configure(ctx context.Context, w *world) (sdk.ClientConfig, error) {
	cfg := sdk.ClientConfig{State: c.State, Addrs: c.URL}
	if err := checkState(c.State); err != nil {
		return cfg, err
	}
	for _, text := range c.URL {
		if err := checkClientURL(text); err != nil {
			return cfg, err
		}
	}
	nodes, err := c.nodes()
	if err != nil {
		return cfg, err
	}
	if err := c.findToken(w, &cfg); err != nil {
		return cfg, err
	}
	cfg.App, err = anyOf(nodes, func(n connectNode) (string, error) { return findApp(ctx, n.Client, c.App) })
	if err != nil {
		return cfg, err
	}
	ca := c.CA
	if len(c.URL) == 0 || cfg.Token == "" {
		found, err := look(ctx, nodes, c.App)
		if err != nil {
			return cfg, err
		}
		if len(c.URL) == 0 {
			ca = or(ca, found[0].status.CAFile)
			if cfg.Addrs, err = clientURLs(found); err != nil {
				return cfg, err
			}
		}
	}
	if ca != "" {
		var pool *x509.CertPool
		if pool, err = certPool("--ca", ca); err != nil {
			return cfg, err
		}
		cfg.RootCAs = pool
	}
	if cfg.Token == "" {
		cfg.TokenSource = (&minted{nodes: nodes, app: cfg.App, user: c.User}).token
	}
	return cfg, nil
}

// findToken takes the token that there is already.
func (c *connectCommand) findToken(w *world, cfg *sdk.ClientConfig) error {
	if token, ok := w.env(envPrefix + "TOKEN"); ok {
		cfg.Token = token
	}
	if c.TokenFile != "" {
		token, err := readSecret("--token-file", c.TokenFile)
		if err != nil {
			return err
		}
		cfg.Token = string(token)
	}
	return nil
}

// checkClientURL refuses what no client could ever connect to.
func checkClientURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || !slices.Contains([]string{"ws", "wss", "tcp", "tls"}, u.Scheme) || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil {
		return misused("--url %q: want ws://HOST:PORT, wss://, tcp:// or tls:// and nothing behind it", clip(text))
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	if bare := u.Port() == "" && !strings.HasSuffix(u.Host, ":") && strings.HasPrefix(u.Scheme, "ws"); !bare && (err != nil || port == 0) {
		return misused("--url %q: want a port from 1 to 65535", clip(text))
	}
	return nil
}

// connectNode is a node whose operators' port may be asked.
type connectNode struct {
	*admin.Client
	url string
}

// nodes are those at --admin.
func (c *connectCommand) nodes() ([]connectNode, error) {
	urls := strings.Split(c.Admin, ",")
	clients, err := c.clientsOf(urls...)
	if err != nil {
		return nil, err
	}
	out := make([]connectNode, 0, len(clients))
	for i, client := range clients {
		out = append(out, connectNode{client, urls[i]})
	}
	return out, nil
}

// anyOf asks one node after the other until one answers, be it with a refusal.
func anyOf[T any](nodes []connectNode, ask func(connectNode) (T, error)) (answer T, err error) {
	for _, n := range nodes {
		answer, err = ask(n)
		var refused *admin.Failure
		if err == nil || errors.As(err, &refused) {
			break
		}
	}
	return answer, err
}

// seenNode is what a node says of itself, and where it was asked.
type seenNode struct {
	status admin.Status
	url    string
}

// look asks all nodes, of which one has to answer, and whether the app can be there at all.
func look(ctx context.Context, nodes []connectNode, app string) ([]seenNode, error) {
	var found []seenNode
	var last error
	for _, n := range nodes {
		st, err := n.Status(ctx)
		if err != nil {
			last = err
			continue
		}
		if app == "dev" && st.AppsMode == "listed" {
			if err := hasDevApp(ctx, n); err != nil {
				return nil, err
			}
		}
		found = append(found, seenNode{st, n.url})
	}
	if len(found) == 0 {
		return nil, last
	}
	return found, nil
}

// hasDevApp answers what to do where there is no app of trunkline dev.
func hasDevApp(ctx context.Context, n connectNode) error {
	dev, err := findApp(ctx, n.Client, "dev")
	if err != nil {
		return err
	}
	apps, err := n.Apps(ctx)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(apps, func(a admin.App) bool { return a.ID == dev }) {
		return errors.New("there is no dev app here: name yours with --app (`trunkline apps list` shows them)")
	}
	return nil
}

// minted are test tokens from whichever node answers.
type minted struct {
	nodes     []connectNode
	app, user string

	mu   sync.Mutex // guards last; not held while asking
	last admin.Token
}

// token answers a new token, or the last one for as long as it is good, where no node answers: the client may well reach
// one that takes it.
func (m *minted) token(ctx context.Context) (string, error) {
	m.mu.Lock()
	last := m.last
	m.mu.Unlock()
	good := time.Until(last.Expires) > 0
	if good {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, mintTime)
		defer cancel()
	}
	t, err := anyOf(m.nodes, func(n connectNode) (admin.Token, error) {
		return n.MintToken(ctx, m.app, admin.TestToken{User: m.user})
	})
	if err != nil {
		if good {
			return last.Token, nil
		}
		return "", err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.last = t
	return t.Token, nil
}

// mintTime bounds how long a client that has a token asks for another.
const mintTime = 2 * time.Second

// clientURLs answers where the nodes' clients connect.
func clientURLs(nodes []seenNode) (list []string, err error) {
	for _, n := range nodes {
		u, err := clientURL(n.status, n.url)
		if err != nil {
			return nil, err
		}
		list = append(list, u)
	}
	return list, nil
}

// clientURL answers where a node's clients connect, seen from where its
// operators' port is reached.
func clientURL(st admin.Status, adminURL string) (string, error) {
	if len(st.Addresses["client"]) == 0 {
		return "", fmt.Errorf("the node does not say where its clients connect: give --url")
	}
	host, port, err := net.SplitHostPort(st.Addresses["client"][0])
	if err != nil {
		return "", fmt.Errorf("the node's client address: %w", err)
	}
	if addr, err := netip.ParseAddr(host); err == nil && addr.IsUnspecified() {
		u, err := url.Parse(adminURL)
		if err != nil {
			return "", fmt.Errorf("--admin: %w", err)
		}
		host = u.Hostname()
	}
	scheme := "ws"
	if st.TLS == "on" {
		scheme = "wss"
	}
	return scheme + "://" + net.JoinHostPort(host, port), nil
}
