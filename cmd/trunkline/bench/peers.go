package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/trunkline-edge/trunkline/cmd/trunkline/child"
)

// Other people's proxies in front of the floor, as ordinary child processes with a configuration in the lab's folder.

const haproxyConfig = `global
    maxconn 9000
    log stderr local0 emerg
defaults
    mode http
    timeout connect 5s
    timeout client 1h
    timeout server 1h
    timeout tunnel 1h
frontend clients
    bind 127.0.0.1:%s
    default_backend floor
backend floor
    server floor %s
`

const nginxConfig = `daemon off;
pid %[1]s/nginx.pid;
error_log stderr crit;
worker_processes auto;
events { worker_connections 9000; }
http {
    access_log off;
    client_body_temp_path %[1]s/body;
    proxy_temp_path %[1]s/proxy;
    fastcgi_temp_path %[1]s/fastcgi;
    uwsgi_temp_path %[1]s/uwsgi;
    scgi_temp_path %[1]s/scgi;
    upstream floor { server %[3]s; }
    server {
        listen 127.0.0.1:%[2]s;
        location / {
            proxy_pass http://floor;
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection "upgrade";
            proxy_read_timeout 1h;
            proxy_send_timeout 1h;
        }
    }
}
`

// peer says how to start one proxy.
type peer struct {
	name   string
	config func(dir, port, floor string) string
	args   func(dir, file string) []string
}

var errNoPeer = errors.New("not installed")

func haproxyPeer() peer {
	return peer{
		name:   "haproxy",
		config: func(_, port, floor string) string { return fmt.Sprintf(haproxyConfig, port, floor) },
		args:   func(_, file string) []string { return []string{"-db", "-q", "-f", file} },
	}
}

func nginxPeer() peer {
	return peer{
		name:   "nginx",
		config: func(dir, port, floor string) string { return fmt.Sprintf(nginxConfig, dir, port, floor) },
		args:   func(dir, file string) []string { return []string{"-p", dir, "-e", "stderr", "-c", file} },
	}
}

// startPeer starts a proxy in front of the floor. errNoPeer: this machine has not got it.
func (l *lab) startPeer(ctx context.Context, p peer, floor *contender) (*contender, error) {
	path, err := findPeer(p.name)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(l.dir, p.name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, fmt.Errorf("start %s: %w", p.name, err)
	}
	port, err := freePort()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", p.name, err)
	}
	file := filepath.Join(dir, p.name+".conf")
	if err := os.WriteFile(file, []byte(p.config(dir, port, floor.endpoint.address)), 0o600); err != nil {
		return nil, fmt.Errorf("start %s: %w", p.name, err)
	}
	proc, err := l.start(ctx, child.Command{Name: p.name, Path: path, Args: p.args(dir, file), Dir: dir})
	if err != nil {
		return nil, err
	}
	address := net.JoinHostPort("127.0.0.1", port)
	if err := waitForListener(ctx, address, proc); err != nil {
		return nil, fmt.Errorf("start %s: %w", p.name, err)
	}
	return &contender{
		Name: p.name, meter: processMeter{pid: proc.PID()},
		endpoint: endpoint{address: address, host: address, path: "/", sources: newSources(address)},
	}, nil
}

// findPeer also looks where Debian puts servers, which is not in everybody's PATH.
func findPeer(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	path := filepath.Join("/usr/sbin", name)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	return "", fmt.Errorf("%s: %w", name, errNoPeer)
}

func waitForListener(ctx context.Context, address string, p *child.Process) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	var d net.Dialer
	for {
		nc, err := d.DialContext(ctx, "tcp", address)
		if err == nil {
			return nc.Close()
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-p.Done():
			return fmt.Errorf("it ended; it said: %s", p.Tail())
		case <-ctx.Done():
			return fmt.Errorf("%w; it said: %s", err, p.Tail())
		}
	}
}
