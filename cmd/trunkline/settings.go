package main

import (
	"log/slog"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/trunkline-edge/trunkline/admin"
)

// settings is the one description of what serve and dev can be told: from it come
// the flags, the names in the environment (TRUNKLINE_ and the flag in capitals),
// the keys of the file, the help and docs/configuration.md. The tag dev is the
// default in dev where it differs.
type settings struct {
	Config string `help:"Read settings from this YAML file; keys are the names of the flags." placeholder:"FILE" group:"Node"`

	NodeID  string `help:"Name of this node, stable over restarts: lowercase letters, digits, dots and dashes. Default: the host's name." placeholder:"NAME" dev:"dev" group:"Node"`
	Region  string `help:"Region of this node; new states go to instances of the asking region first." default:"local" placeholder:"NAME" group:"Node"`
	DataDir string `help:"Directory for the table, the apps, the keys and the logins. serve needs one; dev keeps everything in memory without." placeholder:"DIR" group:"Node"`

	KeyFile   string   `help:"Key file of the cluster (mode 0600), the same on every node: 'trunkline keygen' makes one. A node alone needs none and makes one in its data directory." placeholder:"FILE" group:"Cluster"`
	Join      []string `help:"Node port of any living member, at first start; a name stands for all its addresses, the port is 7947 unless said. Tried for ever. Without, an empty data directory forms a new cluster. A restart needs no change, with or without." placeholder:"HOST[:PORT]" group:"Cluster"`
	Profile   string   `help:"Timing between nodes: 'one-region' for voters within some 10 ms of each other, 'multi-region' beyond. Set when the cluster forms." enum:"one-region,multi-region" placeholder:"PROFILE" default:"one-region" group:"Cluster"`
	MaxVoters int      `help:"Nodes that vote, at most: 1, 3, 5 or 7, the same on every node. All others follow." placeholder:"N" default:"5" group:"Cluster"`

	BindAddr      []string `help:"Hosts on which clients, tunnels, TCP clients and other nodes are taken, where their own flag names none; other nodes on the first only. Default: all addresses; localhost means 127.0.0.1 and, where the machine has it, ::1." placeholder:"HOST" dev:"localhost" group:"Addresses"`
	ClientAddr    string   `help:"Where clients are taken: HTTPS and WebSocket. A port of 0, here and below, takes any free one." placeholder:"[HOST]:PORT" default:":443" dev:":8080" group:"Addresses"`
	TunnelAddr    string   `help:"Where backends' tunnels are taken." placeholder:"[HOST]:PORT" default:":7147" group:"Addresses"`
	TCPAddr       string   `name:"tcp-addr" help:"Where TCP clients are taken." placeholder:"[HOST]:PORT" default:":7148" group:"Addresses"`
	AdminAddr     string   `help:"Where operators are answered: metrics, health, JSON. Beyond loopback only with --admin-token-file." placeholder:"[HOST]:PORT" default:"localhost:7180" group:"Addresses"`
	GossipAddr    string   `help:"Where gossip of other nodes is taken, TCP and UDP." placeholder:"[HOST]:PORT" default:":7946" group:"Addresses"`
	NodeAddr      string   `help:"Where other nodes are taken: raft, calls and links, by mutual TLS." placeholder:"[HOST]:PORT" default:":7947" group:"Addresses"`
	AdvertiseAddr string   `help:"Host under which other nodes reach this one. With a port, gossip is reached there and the node port at the next one. Default: what is bound, and where that is every address, the machine's first private one." placeholder:"HOST[:PORT]" group:"Addresses"`
	PublicURL     string   `name:"public-url" help:"The URL under which clients reach this node, handed out in connection info. Default: the Host of each request." placeholder:"URL" group:"Addresses"`
	PortsFile     string   `help:"Write the addresses that were bound to this file, as JSON, once they are." placeholder:"FILE" group:"Addresses"`
	PlainFrom     []string `help:"Networks from which tunnels and TCP clients without TLS are taken: CIDRs, or 'private' (loopback, private and link-local ranges), 'all', 'none'." placeholder:"CIDR" default:"private" group:"Addresses"`

	TLS     string `name:"tls" help:"'on': TLS only. 'both': TLS or plain, by the first byte. 'off': plain, for nodes behind a terminator." enum:"on,both,off" placeholder:"MODE" default:"on" dev:"both" group:"TLS"`
	TLSCert string `name:"tls-cert" help:"Certificate chain in PEM, read again when the file changes. dev makes a throw-away one without." placeholder:"FILE" group:"TLS"`
	TLSKey  string `name:"tls-key" help:"Private key in PEM, mode 0600, read again when the file changes." placeholder:"FILE" group:"TLS"`

	Apps           string `help:"'open': any app secret is an app of its own. 'listed': those made with 'trunkline apps create'." enum:"open,listed" placeholder:"MODE" default:"listed" dev:"open" group:"Apps and tokens"`
	URLTokens      bool   `name:"url-tokens" help:"Take tokens from the URL of a WebSocket, as the oldest and the newest Hathora SDKs send them." default:"true" negatable:"" group:"Apps and tokens"`
	TokenTTL       span   `name:"token-ttl" help:"How long a token is good." placeholder:"TIME" default:"24h" group:"Apps and tokens"`
	LoginRetention span   `help:"How long a login is remembered after it was last used." placeholder:"TIME" default:"365d" group:"Apps and tokens"`

	IssuerHosts []string `help:"Hosts of identity providers that may be asked for their keys by plain HTTP and on loopback or link-local addresses; all others must be HTTPS and elsewhere." placeholder:"HOST[:PORT]" group:"Apps and tokens"`

	MaxMessage       size  `help:"The largest message of a client, unless its app says otherwise; at most 15MiB." placeholder:"SIZE" default:"1MiB" group:"Limits"`
	LimitConnsPerIP  int   `name:"limit-conns-per-ip" help:"Client connections per address (IPv6: per /64); 0: no limit. dev does not count loopback addresses." placeholder:"N" default:"1000" group:"Limits"`
	LimitLoginsPerIP int   `name:"limit-logins-per-ip" help:"Logins per second and address (IPv6: per /64), at least 1; dev does not count loopback addresses." placeholder:"N" default:"20" group:"Limits"`
	LimitConnsPerApp share `help:"Client connections per app: a number, 0 for no limit, or 'half' of the descriptors that the process may have, so that no app fills the node alone." placeholder:"N" default:"half" dev:"0" group:"Limits"`

	InstanceWait span `help:"How long a new connection waits while its app has no instance." placeholder:"TIME" default:"5s" group:"Failure"`
	Hold         span `help:"How long open sessions wait when the last instance of their app is gone; less than 45s." placeholder:"TIME" default:"30s" group:"Failure"`
	Grace        span `help:"How long a native instance may take to come back before its states move." placeholder:"TIME" default:"1s" group:"Failure"`
	LegacyGrace  span `help:"The same for a legacy instance, whose SDK redials after one to two seconds." placeholder:"TIME" default:"3s" group:"Failure"`
	TunnelStall  span `help:"How long a backend may leave its tunnel unread." placeholder:"TIME" default:"10s" group:"Failure"`
	Drain        span `help:"How long a node that was told to stop lets sessions and tunnels leave before it closes them." placeholder:"TIME" default:"10s" dev:"1s" group:"Failure"`

	AdminTokenFile string `help:"File (mode 0600) with the token that operators must bear." placeholder:"FILE" group:"Operating"`
	Pprof          bool   `help:"Serve profiles under /debug/pprof/ on the operators' port." group:"Operating"`
	LogFormat      string `help:"Form of the log." enum:"text,json" placeholder:"FORMAT" default:"text" group:"Operating"`
	LogLevel       string `help:"Least level of what is logged." enum:"debug,info,warn,error" placeholder:"LEVEL" default:"info" group:"Operating"`
}

// giveDevItsDefaults turns the dev tags into the defaults of the command dev.
func giveDevItsDefaults(k *kong.Kong) error {
	for _, command := range k.Model.Children {
		if command.Name != "dev" {
			continue
		}
		for _, flag := range command.Flags {
			if flag.Tag.Has("dev") {
				flag.Default, flag.HasDefault = flag.Tag.Get("dev"), true
			}
		}
	}
	return nil
}

var nodeName = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,62}[a-z0-9])?$`)

// check says what is wrong with the settings and fills in what follows from the
// machine. Its errors name the flag and what to do.
func (s *settings) check() error {
	if s.NodeID == "" {
		host, err := os.Hostname()
		if err != nil {
			return misused("the host has no name (%v): give the node one with --node-id NAME", err)
		}
		s.NodeID = strings.ToLower(host)
	}
	if !nodeName.MatchString(s.NodeID) {
		return misused("--node-id %q: use 1 to 64 lowercase letters, digits, dots and dashes", s.NodeID)
	}
	if !nodeName.MatchString(s.Region) {
		return misused("--region %q: use 1 to 64 lowercase letters, digits, dots and dashes", s.Region)
	}
	if (s.TLSCert == "") != (s.TLSKey == "") {
		return misused("--tls-cert and --tls-key belong together: give both or none")
	}
	if s.TLS == "off" && s.TLSCert != "" {
		return misused("--tls off and --tls-cert contradict each other: leave one of them out")
	}
	if s.MaxMessage < 1 || s.MaxMessage > admin.MaxMessageLimit {
		return misused("--max-message %s: from 1 byte to 15MiB", s.MaxMessage)
	}
	if s.Hold.Duration() >= holdLimit {
		return misused("--hold %s: must be below %s, when a client that nothing is read from would be taken for gone", s.Hold, holdLimit)
	}
	if s.LimitConnsPerIP < 0 {
		return misused("--limit-conns-per-ip %d: 0 means no limit, less means nothing", s.LimitConnsPerIP)
	}
	if s.LimitLoginsPerIP < 1 {
		return misused("--limit-logins-per-ip %d: at least 1", s.LimitLoginsPerIP)
	}
	if _, err := s.plainFrom(); err != nil {
		return err
	}
	if err := s.checkCluster(); err != nil {
		return err
	}
	return s.checkAddresses()
}

func (s *settings) checkAddresses() error {
	for _, a := range s.listenFlags() {
		if _, err := a.hosts(s.BindAddr); err != nil {
			return err
		}
	}
	if s.PublicURL == "" {
		return nil
	}
	u, err := url.Parse(s.PublicURL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil {
		return misused("--public-url %q: want https://HOST[:PORT] and nothing behind it", s.PublicURL)
	}
	return nil
}

// plainFrom answers the networks of --plain-from.
func (s *settings) plainFrom() ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, text := range s.PlainFrom {
		switch text {
		case "private":
			out = append(out, privateRanges()...)
		case "all":
			out = append(out, netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0"))
		case "none":
		default:
			p, err := netip.ParsePrefix(text)
			if err != nil {
				return nil, misused("--plain-from %q: want a CIDR such as 10.0.0.0/8, or private, all or none", text)
			}
			out = append(out, p.Masked())
		}
	}
	return out, nil
}

func (s *settings) logger(w *world) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(s.LogLevel)) // kong has checked the enumeration
	opts := &slog.HandlerOptions{Level: level}
	if s.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w.stderr, opts))
	}
	return slog.New(slog.NewTextHandler(w.stderr, opts))
}
