package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// maxAnswer bounds what the client reads of one answer: a full page of states.
const maxAnswer = 16 << 20

// Client speaks to a node's operators' port. It is safe for concurrent use.
type Client struct {
	base  *url.URL
	token Secret
	node  string // that is to answer; "": the one at base
	http  *http.Client
}

// NewClient makes a client for the port at base (http://HOST:PORT). The token
// may be empty. transport nil is http.DefaultTransport.
func NewClient(base string, token Secret, transport http.RoundTripper) (*Client, error) {
	if !strings.Contains(base, "://") {
		base = "http://" + base
	}
	u, err := url.Parse(base)
	if err != nil {
		return nil, fmt.Errorf("admin: address %q: %w", base, err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("admin: address %q: want http://HOST:PORT", base)
	}
	return &Client{base: u, token: token, http: &http.Client{Transport: transport}}, nil
}

// At answers a client whose reading requests the node of that name answers, through the one at the client's address. ""
// is that one itself.
func (c *Client) At(node string) *Client {
	at := *c
	at.node = node
	return &at
}

// Failure is an answer that is not 2xx.
type Failure struct {
	Status  int
	Code    string
	Message string
}

// Error answers the node's sentence.
func (f *Failure) Error() string { return f.Message }

// send makes one request and answers the status with the body.
func (c *Client) send(ctx context.Context, method, path string, query url.Values, body any) (int, []byte, error) {
	if c.node != "" && method == http.MethodGet {
		query = maps.Clone(query)
		if query == nil {
			query = url.Values{}
		}
		query.Set("node", c.node)
	}
	var payload io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return 0, nil, fmt.Errorf("admin: encode request: %w", err)
		}
		payload = bytes.NewReader(b)
	}
	resp, err := c.ask(ctx, method, path, query, payload)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return 0, nil, fmt.Errorf("admin: read answer of %s: %w", c.base, err)
	}
	return resp.StatusCode, answer, nil
}

// ask makes one request; a payload is JSON.
func (c *Client) ask(ctx context.Context, method, path string, query url.Values, payload io.Reader) (*http.Response, error) {
	u := c.base.JoinPath(path)
	u.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, method, u.String(), payload)
	if err != nil {
		return nil, fmt.Errorf("admin: %s %s: %w", method, path, err)
	}
	if payload != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+string(c.token))
	}
	resp, err := c.http.Do(req)
	if err != nil {
		var inner *url.Error
		if errors.As(err, &inner) {
			err = inner.Err
		}
		return nil, fmt.Errorf("no node answers at %s: %w (is `trunkline serve` or `trunkline dev` running? --admin names another address)", c.base, err)
	}
	return resp, nil
}

// do makes one request and reads what it answers into a value, unless that is
// nil. An answer other than 2xx is a *Failure.
func (c *Client) do(ctx context.Context, method, path string, query url.Values, body, into any) error {
	status, answer, err := c.send(ctx, method, path, query, body)
	switch {
	case err != nil:
		return err
	case status/100 != 2:
		return failureOf(status, answer)
	case into == nil:
		return nil
	}
	return c.decode(answer, into)
}

func (c *Client) decode(answer []byte, into any) error {
	if err := json.Unmarshal(answer, into); err != nil {
		return fmt.Errorf("admin: %s answers something else than a Trunkline node: %w", c.base, err)
	}
	return nil
}

func failureOf(status int, answer []byte) error {
	var body errorBody
	if json.Unmarshal(answer, &body) != nil || body.Error.Message == "" {
		return &Failure{Status: status, Code: "unknown", Message: fmt.Sprintf("the node answers %d %s", status, http.StatusText(status))}
	}
	return &Failure{Status: status, Code: body.Error.Code, Message: body.Error.Message}
}

func appFilter(app string) url.Values {
	q := url.Values{}
	if app != "" {
		q.Set("app", app)
	}
	return q
}

// Status asks what the node is.
func (c *Client) Status(ctx context.Context) (s Status, err error) {
	return s, c.do(ctx, http.MethodGet, "/v1/status", nil, nil, &s)
}

// Ready asks for the readiness checks. A node that is not ready is no error.
func (c *Client) Ready(ctx context.Context) (r Readiness, err error) {
	status, answer, err := c.send(ctx, http.MethodGet, "/readyz", url.Values{"verbose": {""}}, nil)
	if err != nil {
		return r, err
	}
	if status != http.StatusOK && status != http.StatusServiceUnavailable {
		return r, failureOf(status, answer)
	}
	return r, c.decode(answer, &r)
}

// Instances lists the backends of one app, or of all for "".
func (c *Client) Instances(ctx context.Context, app string) ([]Instance, error) {
	var l InstanceList
	err := c.do(ctx, http.MethodGet, "/v1/instances", appFilter(app), nil, &l)
	return l.Instances, err
}

// States lists one page of the states of one app, or of all for ""; after is the
// Next of the page before.
func (c *Client) States(ctx context.Context, app, after string, limit int) (l StateList, err error) {
	q := appFilter(app)
	if after != "" {
		q.Set("after", after)
	}
	if limit > 0 {
		q.Set("limit", strconv.Itoa(limit))
	}
	return l, c.do(ctx, http.MethodGet, "/v1/states", q, nil, &l)
}

// Where finds a state in one app, or in all for "".
func (c *Client) Where(ctx context.Context, app, state string) ([]Where, error) {
	var l WhereList
	err := c.do(ctx, http.MethodGet, "/v1/states/"+url.PathEscape(state), appFilter(app), nil, &l)
	return l.Where, err
}

// Apps lists the apps.
func (c *Client) Apps(ctx context.Context) ([]App, error) {
	var l AppList
	err := c.do(ctx, http.MethodGet, "/v1/apps", nil, nil, &l)
	return l.Apps, err
}

// CreateApp makes an app.
func (c *Client) CreateApp(ctx context.Context, req CreateApp) (a CreatedApp, err error) {
	return a, c.do(ctx, http.MethodPost, "/v1/apps", nil, req, &a)
}

// SetApp changes an app's settings.
func (c *Client) SetApp(ctx context.Context, app string, change SettingsChange) (a App, err error) {
	return a, c.do(ctx, http.MethodPatch, "/v1/apps/"+url.PathEscape(app), nil, change, &a)
}

// AddSecret adds a secret to an app.
func (c *Client) AddSecret(ctx context.Context, app string, req AddSecret) (s AppSecret, err error) {
	return s, c.do(ctx, http.MethodPost, "/v1/apps/"+url.PathEscape(app)+"/secrets", nil, req, &s)
}

// RemoveSecret takes the secret with that fingerprint from an app.
func (c *Client) RemoveSecret(ctx context.Context, app, fingerprint string) error {
	return c.do(ctx, http.MethodDelete, "/v1/apps/"+url.PathEscape(app)+"/secrets/"+url.PathEscape(fingerprint), nil, nil, nil)
}

// DeleteApp forgets an app.
func (c *Client) DeleteApp(ctx context.Context, app string) error {
	return c.do(ctx, http.MethodDelete, "/v1/apps/"+url.PathEscape(app), nil, nil, nil)
}

// MintToken makes a test token of an app.
func (c *Client) MintToken(ctx context.Context, app string, req TestToken) (t Token, err error) {
	return t, c.do(ctx, http.MethodPost, "/v1/apps/"+url.PathEscape(app)+"/tokens", nil, req, &t)
}
