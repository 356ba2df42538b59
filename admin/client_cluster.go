package admin

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// Members lists the nodes.
func (c *Client) Members(ctx context.Context) ([]Member, error) {
	var l MemberList
	err := c.do(ctx, http.MethodGet, "/v1/members", nil, nil, &l)
	return l.Members, err
}

// ClusterStatus asks how every node is.
func (c *Client) ClusterStatus(ctx context.Context) (s ClusterStatus, err error) {
	return s, c.do(ctx, http.MethodGet, "/v1/cluster", nil, nil, &s)
}

// Peers asks for raft's configuration.
func (c *Client) Peers(ctx context.Context) (p Peers, err error) {
	return p, c.do(ctx, http.MethodGet, "/v1/raft/peers", nil, nil, &p)
}

// Leave takes the node at the client's address out of the cluster and answers its name.
func (c *Client) Leave(ctx context.Context) (r Removed, err error) {
	return r, c.do(ctx, http.MethodPost, "/v1/leave", nil, nil, &r)
}

// ForceRemove takes another node out.
func (c *Client) ForceRemove(ctx context.Context, node string) (r Removed, err error) {
	return r, c.do(ctx, http.MethodDelete, "/v1/members/"+url.PathEscape(node), nil, nil, &r)
}

// Revoke makes every node refuse that one's certificate.
func (c *Client) Revoke(ctx context.Context, node string) (r Removed, err error) {
	return r, c.do(ctx, http.MethodPost, "/v1/members/"+url.PathEscape(node)+"/revoke", nil, nil, &r)
}

// Snapshot writes the table to w as a snapshot file. After an error, what was written is to be thrown away.
func (c *Client) Snapshot(ctx context.Context, w io.Writer) error {
	resp, err := c.ask(ctx, http.MethodGet, "/v1/snapshot", nil, nil)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		text, err := io.ReadAll(io.LimitReader(resp.Body, maxBodyBytes))
		if err != nil {
			return fmt.Errorf("admin: read answer of %s: %w", c.base, err)
		}
		return failureOf(resp.StatusCode, text)
	}
	if _, err := io.Copy(w, resp.Body); err != nil {
		return fmt.Errorf("the snapshot of %s was cut off: %w", c.base, err)
	}
	return nil
}

// Keys asks which secrets the cluster has.
func (c *Client) Keys(ctx context.Context) (l KeyList, err error) {
	return l, c.do(ctx, http.MethodGet, "/v1/keys", nil, nil, &l)
}

// AddKey adds a secret to every live member's key file and answers its id.
func (c *Client) AddKey(ctx context.Context, req AddKey) (k KeyID, err error) {
	return k, c.do(ctx, http.MethodPost, "/v1/keys", nil, req, &k)
}

// UseKey makes a secret the primary one.
func (c *Client) UseKey(ctx context.Context, id string) (k KeyID, err error) {
	return k, c.do(ctx, http.MethodPost, "/v1/keys/"+url.PathEscape(id)+"/use", nil, nil, &k)
}

// DropKey takes a secret away.
func (c *Client) DropKey(ctx context.Context, id string) error {
	return c.do(ctx, http.MethodDelete, "/v1/keys/"+url.PathEscape(id), nil, nil, nil)
}
