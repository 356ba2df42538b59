package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"
)

const (
	maxKeySet    = 64 << 10
	fetchTimeout = 5 * time.Second
)

// fetcher gets small documents from issuers. It follows no redirect, uses no
// proxy, takes at most 64 KiB, and reaches neither loopback nor link-local
// addresses nor plain HTTP, except for the hosts that the operator listed. The
// address is checked when it is dialled, so a name that resolves to something
// else the second time gains nothing.
type fetcher struct {
	allowed map[string]bool // host:port
	timeout time.Duration   // for everything that one key set takes
	strict  *http.Client
	listed  *http.Client
}

func newFetcher(allowHosts []string) *fetcher {
	f := &fetcher{
		allowed: make(map[string]bool, len(allowHosts)),
		timeout: fetchTimeout,
		strict:  newClient(refuseLocal),
		listed:  newClient(nil),
	}
	for _, host := range allowHosts {
		host = strings.ToLower(host)
		if _, _, err := net.SplitHostPort(host); err == nil {
			f.allowed[host] = true
			continue
		}
		host = strings.Trim(host, "[]")
		f.allowed[net.JoinHostPort(host, "443")] = true
		f.allowed[net.JoinHostPort(host, "80")] = true
	}
	return f
}

func newClient(control func(network, address string, c syscall.RawConn) error) *http.Client {
	dialer := &net.Dialer{Timeout: fetchTimeout, Control: control}
	return &http.Client{
		Timeout: fetchTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		},
		Transport: &http.Transport{
			DialContext:            dialer.DialContext,
			DisableKeepAlives:      true,
			DisableCompression:     true,
			MaxResponseHeaderBytes: 16 << 10,
			TLSHandshakeTimeout:    fetchTimeout,
		},
	}
}

// refuseLocal refuses to dial addresses of this machine and of its link; cloud
// providers serve credentials on the latter.
func refuseLocal(_, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("dial %q: not an address", capped(address))
	}
	if isLocal(at.Addr()) {
		return fmt.Errorf("dial %s: loopback and link-local addresses are refused unless listed", at)
	}
	return nil
}

// Address ranges that carry an IPv4 address inside, and AWS's IPv6 metadata.
var (
	nat64     = netip.MustParsePrefix("64:ff9b::/96")
	sixToFour = netip.MustParsePrefix("2002::/16")
	metadata  = netip.MustParseAddr("fd00:ec2::254")
	thisHost  = netip.MustParsePrefix("0.0.0.0/8")
)

func isLocal(ip netip.Addr) bool {
	ip = ip.Unmap().WithZone("")
	if b := ip.As16(); nat64.Contains(ip) {
		ip = netip.AddrFrom4([4]byte(b[12:16]))
	} else if sixToFour.Contains(ip) {
		ip = netip.AddrFrom4([4]byte(b[2:6]))
	}
	return ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.IsMulticast() || ip.IsUnspecified() ||
		thisHost.Contains(ip) || ip == metadata
}

// get fetches a document. The caller's context bounds the whole of it.
func (f *fetcher) get(ctx context.Context, address string) ([]byte, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, errors.New("not a web address")
	}
	host, port := strings.ToLower(u.Hostname()), u.Port()
	if port == "" {
		port = "443"
		if u.Scheme == "http" {
			port = "80"
		}
	}
	client := f.strict
	if f.allowed[net.JoinHostPort(host, port)] {
		client = f.listed
	} else if u.Scheme != "https" {
		return nil, errors.New("plain HTTP is refused unless the host is listed")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, errors.New("not a web address")
	}
	req.Header.Set("Accept", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %d", resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxKeySet+1))
	if err != nil {
		return nil, err
	}
	if len(body) > maxKeySet {
		return nil, fmt.Errorf("more than %d bytes", maxKeySet)
	}
	return body, nil
}

// keySet fetches the keys of an issuer, asking its discovery document where they
// are if no address is given.
func (f *fetcher) keySet(ctx context.Context, issuer, address string) (map[string]issuerKey, error) {
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	if address == "" {
		raw, err := f.get(ctx, strings.TrimSuffix(issuer, "/")+"/.well-known/openid-configuration")
		if err != nil {
			return nil, fmt.Errorf("fetch the discovery document: %w", err)
		}
		var doc struct {
			Issuer string `json:"issuer"`
			JWKS   string `json:"jwks_uri"`
		}
		if json.Unmarshal(raw, &doc) != nil || doc.Issuer != issuer || checkURL(doc.JWKS) != nil {
			return nil, errors.New("the discovery document names another issuer or no key set")
		}
		address = doc.JWKS
	}
	raw, err := f.get(ctx, address)
	if err != nil {
		return nil, fmt.Errorf("fetch the key set: %w", err)
	}
	return parseKeys(raw)
}
