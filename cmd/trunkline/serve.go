package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/netip"

	"github.com/trunkline-edge/trunkline/cluster/trust"
	"github.com/trunkline-edge/trunkline/cmd/trunkline/certs"
	"github.com/trunkline-edge/trunkline/edge"
)

type serveCommand struct {
	settings
}

// Run runs a node until a signal ends it.
func (c *serveCommand) Run(ctx context.Context, w *world) error {
	if err := c.check(); err != nil {
		return err
	}
	if err := c.checkServe(); err != nil {
		return err
	}
	if err := c.checkFiles(); err != nil {
		return err
	}
	log := c.logger(w)
	pair, err := c.loadCertificate(log)
	if err != nil {
		return err
	}
	return runNode(ctx, w, &c.settings, pair, log, nil)
}

// checkServe says what serve needs that dev does not.
func (s *settings) checkServe() error {
	if s.TLS != "off" && s.TLSCert == "" {
		return misused("serve speaks TLS and has no certificate: give --tls-cert FILE and --tls-key FILE, or say --tls off when something in front of it ends TLS")
	}
	if s.DataDir == "" {
		return misused("serve keeps its table, apps and logins in a directory: give --data-dir DIR (`trunkline dev` keeps everything in memory)")
	}
	return nil
}

// checkFiles reads every file that the settings name, so that a mistake is seen
// before anything is bound.
func (s *settings) checkFiles() error {
	if s.AdminTokenFile != "" {
		if _, err := readSecret("--admin-token-file", s.AdminTokenFile); err != nil {
			return err
		}
	}
	if s.KeyFile != "" {
		if _, err := trust.LoadKeys(s.KeyFile); err != nil {
			return fmt.Errorf("--key-file: %w", err)
		}
	}
	if s.TLSKey == "" {
		return nil
	}
	key, err := openPrivate("--tls-key", s.TLSKey)
	if err != nil {
		return err
	}
	_ = key.Close()
	_, err = certs.Load(s.TLSCert, s.TLSKey, slog.New(slog.DiscardHandler))
	return err
}

// certificate is where a node's certificate comes from.
type certificate interface {
	Certificate() *tls.Certificate
}

// loadCertificate answers the certificate of the files, or nil when TLS is off.
func (s *settings) loadCertificate(log *slog.Logger) (certificate, error) {
	if s.TLSCert == "" {
		return nil, nil
	}
	pair, err := certs.Load(s.TLSCert, s.TLSKey, log)
	if err != nil {
		return nil, fmt.Errorf("--tls-cert: %w", err)
	}
	return pair, nil
}

func privateRanges() []netip.Prefix { return edge.PrivateRanges() }
