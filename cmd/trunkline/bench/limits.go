package bench

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

// perSource is how many connections share one source address: well below the ports of one address, below the usual
// limit of connections per address, and few enough that the kernel finds a free port at once.
const perSource = 500

// spare is how many descriptors are kept for everything but the measured connections.
const spare = 256

// sources hands out local addresses for outgoing connections. Towards a loopback server they are spread over 127/8,
// because one address has only about 28,000 ports; elsewhere the kernel chooses.
type sources struct {
	spread bool
	count  atomic.Uint64
}

func newSources(address string) *sources {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return &sources{}
	}
	ip := net.ParseIP(host).To4()
	return &sources{spread: ip != nil && ip[0] == 127}
}

// next returns nil where the kernel is to choose.
func (s *sources) next() net.Addr {
	if !s.spread {
		return nil
	}
	return &net.TCPAddr{IP: sourceIP(s.count.Add(1) - 1)}
}

// sourceIP counts through 127.64.0.1 to 127.127.255.250, which no listener of ours uses, perSource times each.
func sourceIP(k uint64) net.IP {
	a := k / perSource
	return net.IPv4(127, 64+byte(a/250/256%64), byte(a/250%256), 1+byte(a%250)).To4()
}

// addresses says how many source addresses are in use.
func (s *sources) addresses() int {
	if !s.spread {
		return 0
	}
	return int((s.count.Load() + perSource - 1) / perSource)
}

// Limits says what bounds the number of connections here, and what of it a run met.
type Limits struct {
	Descriptors     uint64 `json:"descriptors_per_process"`
	PortsPerAddress int    `json:"ports_per_source_address"`
	SourceAddresses int    `json:"source_addresses_used"`
	Met             string `json:"limit_met"`
}

func readLimits() Limits {
	var r syscall.Rlimit
	l := Limits{PortsPerAddress: portRange()}
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err == nil {
		l.Descriptors = r.Cur
	}
	return l
}

// portRange is the size of the kernel's range of local ports, 0 where it cannot be read.
func portRange() int {
	b, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(b))
	if len(fields) != 2 {
		return 0
	}
	low, err1 := strconv.Atoi(fields[0])
	high, err2 := strconv.Atoi(fields[1])
	if err1 != nil || err2 != nil || high < low {
		return 0
	}
	return high - low + 1
}

// allow cuts the wished number of connections to what descriptors and ports permit and notes which of them did.
func (l *Limits) allow(wish int, spread bool) int {
	if l.Descriptors > spare && uint64(wish) > l.Descriptors-spare {
		wish = int(l.Descriptors - spare)
		l.Met = fmt.Sprintf("descriptors: %d per process, %d of them kept for the rest", l.Descriptors, spare)
	}
	if !spread && l.PortsPerAddress > 0 && wish > l.PortsPerAddress {
		wish = l.PortsPerAddress
		l.Met = fmt.Sprintf("ports: %d per source address, and only loopback servers are reached from several", l.PortsPerAddress)
	}
	return wish
}

// String is one line for the report.
func (l Limits) String() string {
	text := fmt.Sprintf("%d descriptors per process, %d ports per source address", l.Descriptors, l.PortsPerAddress)
	if l.SourceAddresses > 0 {
		text += fmt.Sprintf(", %d source addresses used", l.SourceAddresses)
	}
	if l.Met == "" {
		return text + "; none met"
	}
	return text + "; met: " + l.Met
}

// limitError adds to a dial error which limit of this machine it comes from.
func limitError(err error) error {
	switch {
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return fmt.Errorf("limit met: no descriptors left (ulimit -n): %w", err)
	case errors.Is(err, syscall.EADDRNOTAVAIL), errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("limit met: no local ports left for this source address: %w", err)
	default:
		return err
	}
}
