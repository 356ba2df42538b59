package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"

	"github.com/trunkline-edge/trunkline/cluster/control"
)

// Codes of what one node answers another. Never reused.
const (
	codeNotLeader   = control.FirstCode + iota // nothing was done: another node leads
	codeUnknown                                // it was proposed, and nobody knows what became of it
	codeBadAsk                                 // not understood
	codeDenied                                 // the asking node may not
	codeSessionOver                            // the node session is over
	codeUnable                                 // this node cannot do that
	codeNoNode                                 // nobody knows a node of that name
	codeRevoked                                // the asking node was revoked
)

var errBadCall = &control.Error{Code: codeBadAsk, Text: "the call was not understood"}

func coded(code uint16, format string, args ...any) *control.Error {
	return &control.Error{Code: code, Text: fmt.Sprintf(format, args...)}
}

func isCode(err error, code uint16) bool {
	var e *control.Error
	return errors.As(err, &e) && e.Code == code
}

// notLeader tells another node that nothing was done here, and who may lead.
func (n *Node) notLeader() error {
	if node, addr, ok := n.leader(); ok {
		return coded(codeNotLeader, "node %s at %s leads", node, addr)
	}
	return coded(codeNotLeader, "no node is known to lead")
}

// handlers are those of this package and those handed in.
func (n *Node) handlers() map[control.Verb]control.Handler {
	all := maps.Clone(n.cfg.Handlers)
	if all == nil {
		all = map[control.Verb]control.Handler{}
	}
	maps.Copy(all, map[control.Verb]control.Handler{
		control.Enrol:     n.takeEnrolment,
		control.Enter:     n.takeEntry,
		control.Propose:   n.takeAsks,
		control.Renew:     n.takeRenewal,
		control.Keys:      n.takeKeys,
		control.Status:    n.takeStatus,
		control.Leave:     n.takeLeave,
		control.Authority: n.takeAuthority,
		control.Gossip:    n.takeGossip,
	})
	return all
}

func appendU64(dst []byte, v uint64) []byte { return binary.BigEndian.AppendUint64(dst, v) }
