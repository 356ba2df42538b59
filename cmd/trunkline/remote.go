package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/trunkline-edge/trunkline/admin"
)

// remote is how a verb finds the node it speaks to.
type remote struct {
	Admin          string `help:"Operators' port of the node to ask." placeholder:"URL" default:"http://127.0.0.1:7180"`
	AdminTokenFile string `help:"File (mode 0600) with the token that the node asks for." placeholder:"FILE"`
	AdminCA        string `name:"admin-ca" help:"Certificates in PEM to trust besides the system's." placeholder:"FILE"`
}

// reading is a remote for verbs that only look: any node answers for any other.
type reading struct {
	remote
	Node string `help:"Have the node of this name answer, through the one that is asked." placeholder:"NAME"`
}

func (r *reading) client() (*admin.Client, error) {
	c, err := r.remote.client()
	if err != nil {
		return nil, err
	}
	return c.At(r.Node), nil
}

// maxCAFile bounds a file of certificates.
const maxCAFile = 4 << 20

func (n *remote) client() (*admin.Client, error) {
	list, err := n.clientsOf(n.Admin)
	if err != nil {
		return nil, err
	}
	return list[0], nil
}

// clientsOf answers a client for each address.
func (n *remote) clientsOf(addresses ...string) ([]*admin.Client, error) {
	var token admin.Secret
	if n.AdminTokenFile != "" {
		var err error
		if token, err = readSecret("--admin-token-file", n.AdminTokenFile); err != nil {
			return nil, err
		}
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil // an operators' port is never behind the proxy of the environment
	if n.AdminCA != "" {
		pool, err := certPool("--admin-ca", n.AdminCA)
		if err != nil {
			return nil, err
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	out := make([]*admin.Client, 0, len(addresses))
	for _, address := range addresses {
		c, err := admin.NewClient(address, token, transport)
		if err != nil {
			return nil, misuse{fmt.Errorf("--admin: %w", err)}
		}
		out = append(out, c)
	}
	return out, nil
}

// certPool answers the system's certificates and those of a file.
func certPool(flag, path string) (*x509.CertPool, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, maxCAFile))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s %s: no certificate in it: want PEM", flag, path)
	}
	return pool, nil
}

// listing is how a verb prints what it got.
type listing struct {
	JSON bool `name:"json" help:"Print JSON."`
}

// print writes v as JSON, or the rows as a table with aligned columns.
func (l *listing) print(w *world, v any, rows func(table io.Writer)) error {
	if l.JSON {
		return printJSON(w.stdout, v)
	}
	t := tabwriter.NewWriter(w.stdout, 0, 4, 2, ' ', 0)
	rows(t)
	if err := t.Flush(); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// row writes one line of a table. Backends choose some of the texts: what does not print is quoted, so that none can
// steer the terminal or look like another row.
func row(t io.Writer, cells ...any) {
	for i, c := range cells {
		if i > 0 {
			_, _ = io.WriteString(t, "\t")
		}
		text := fmt.Sprint(c)
		if strings.ContainsRune(text, '\t') {
			text = strconv.Quote(text)
		}
		_, _ = io.WriteString(t, printable([]byte(text)))
	}
	_, _ = io.WriteString(t, "\n")
}

// or answers text, or another where it is empty.
func or(text, other string) string {
	if text == "" {
		return other
	}
	return text
}

// short answers the first digits of an app id: enough to tell apps apart by eye.
func short(app string) string {
	if len(app) > 12 {
		return app[:12]
	}
	return app
}
