package legacyclient

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
)

// API is the public HTTP interface of a coordinator.
type API struct {
	Base string // "http://host:port" or "https://host:port"
	HTTP *http.Client
}

// Answer is a response as it came.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Call sends one request.
func (a API) Call(ctx context.Context, method, path string, header http.Header, body []byte) (Answer, error) {
	req, err := http.NewRequestWithContext(ctx, method, a.Base+path, bytes.NewReader(body))
	if err != nil {
		return Answer{}, err
	}
	for key, values := range header {
		req.Header[key] = values
	}
	res, err := a.HTTP.Do(req)
	if err != nil {
		return Answer{}, fmt.Errorf("call %s: %w", path, err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		return Answer{}, fmt.Errorf("read the answer of %s: %w", path, err)
	}
	return Answer{Status: res.StatusCode, Header: res.Header, Body: data}, nil
}

// Anonymous logs in without a word, the way axios sends an empty body.
func (a API) Anonymous(ctx context.Context, app string) (token string, err error) {
	var out struct{ Token string }
	err = a.post(ctx, "/"+app+"/login/anonymous", http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}, nil, &out)
	return out.Token, err
}

// Nickname logs in with a name.
func (a API) Nickname(ctx context.Context, app, name string) (token string, err error) {
	body, err := json.Marshal(map[string]string{"nickname": name})
	if err != nil {
		return "", err
	}
	var out struct{ Token string }
	err = a.post(ctx, "/"+app+"/login/nickname", http.Header{"Content-Type": {"application/json"}}, body, &out)
	return out.Token, err
}

// Create makes a state and returns its id as text.
func (a API) Create(ctx context.Context, app, token string, data []byte) (state string, err error) {
	var out struct{ StateID string }
	header := http.Header{"Authorization": {token}, "Content-Type": {"application/octet-stream"}}
	err = a.post(ctx, "/"+app+"/create", header, data, &out)
	return out.StateID, err
}

func (a API) post(ctx context.Context, path string, header http.Header, body []byte, out any) error {
	answer, err := a.Call(ctx, http.MethodPost, path, header, body)
	if err != nil {
		return err
	}
	if answer.Status != http.StatusOK {
		return fmt.Errorf("call %s: status %d: %s", path, answer.Status, answer.Body)
	}
	if err := json.Unmarshal(answer.Body, out); err != nil {
		return fmt.Errorf("read the answer of %s: %w", path, err)
	}
	return nil
}
