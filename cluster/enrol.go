package cluster

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/trunkline-edge/trunkline/cluster/control"
	"github.com/trunkline-edge/trunkline/cluster/nodeport"
	"github.com/trunkline-edge/trunkline/cluster/trust"
	"github.com/trunkline-edge/trunkline/placement"
)

// An answer to an enrolment is
//
//	u16 length | the answer of package trust | 16 bytes lineage | u8 profile
//
// What follows package trust's answer is as good as that: its proof is bound to the connection that both came over.

// certify sees to it that this node has a certificate that is valid, however long it takes.
func (n *Node) certify(ctx context.Context) error {
	m := n.place()
	claims, ok := n.identity.Claims()
	if ok && claims.Incarnation == m.Incarnation && claims.NodeID == n.cfg.NodeID && time.Now().Before(n.identity.Expires()) {
		return nil
	}
	if m.Recovered && n.authority.Load() == nil {
		n.log.Warn("this node begins a new generation of the cluster without what signed its certificates: " +
			"it makes a new one, and all others fetch new certificates")
		if err := n.makeAuthority(); err != nil {
			return err
		}
	}
	if m.Incarnation != (id128{}) && n.authority.Load() != nil {
		return n.signOwn()
	}
	return n.persist(ctx, "this node has no certificate yet", n.enrolAt)
}

// keepCertificate renews the certificate when two thirds of its life are over.
func (n *Node) keepCertificate(ctx context.Context) error {
	every := time.NewTicker(time.Hour)
	defer every.Stop()
	for {
		if n.identity.NeedsRenewal(time.Now()) {
			err := n.persist(ctx, "this node's certificate could not be renewed yet", func(ctx context.Context, addr string) error {
				if n.authority.Load() != nil {
					return n.signOwn()
				}
				return n.enrolAt(ctx, addr)
			})
			if err != nil {
				return err
			}
		}
		select {
		case <-every.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// enrolAt proves to the node at an address that this one knows the cluster's secret, and takes the certificate that it
// or a voter it names grants for that.
func (n *Node) enrolAt(ctx context.Context, addr string) error {
	got, err := n.askEnrolment(ctx, addr)
	var no *trust.Refusal
	if own := n.place().Lineage; errors.As(err, &no) && no.Proved && no.Code == trust.OtherCluster && own != (id128{}) && got.lineage != own {
		return n.stranger(ctx, addr)
	}
	for i := 0; err == nil && i < len(got.Voters); i++ {
		var next enrolment
		if next, err = n.askEnrolment(ctx, got.Voters[i]); err == nil && next.Grant.Certificate != nil {
			got = next
			break
		}
		if i+1 < len(got.Voters) {
			err = nil
		}
	}
	switch {
	case err != nil:
		return err
	case got.Grant.Certificate == nil:
		return fmt.Errorf("no node that %s names grants certificates", addr)
	}
	return n.take(ctx, addr, got)
}

// enrolment is what a node was answered.
type enrolment struct {
	trust.Answer
	lineage id128
	profile uint8
}

func (n *Node) askEnrolment(ctx context.Context, addr string) (out enrolment, err error) {
	var request []byte
	var binding trust.Binding
	b, err := n.client.CallAnonymous(ctx, addr, control.Enrol, func(peer nodeport.Peer) (_ []byte, err error) {
		if binding, err = trust.BindingOf(*peer.TLS); err != nil {
			return nil, err
		}
		// The lineage, not the present incarnation: a cluster that was recovered since takes its nodes back.
		request, err = n.keys.SealRequest(n.identity.NewRequest(n.keys.Name(), n.cfg.NodeID, n.place().Lineage), binding)
		return request, err
	})
	if err != nil {
		return out, err
	}
	f := fields{b: b}
	answer := f.take(int(f.u16()))
	copy(out.lineage[:], f.take(len(out.lineage)))
	out.profile = f.u8()
	if f.bad {
		return out, errBadCall
	}
	out.Answer, err = n.keys.OpenAnswer(answer, request, binding)
	var no *trust.Refusal
	if errors.As(err, &no) && no.Proved {
		switch no.Code {
		case trust.Denied:
			return out, final{named(n.cfg.NodeID, ErrBound)}
		case trust.Revoked:
			return out, final{named(n.cfg.NodeID, ErrRevoked)}
		}
	}
	return out, err
}

// take takes a certificate, if it is one of this node's cluster.
func (n *Node) take(ctx context.Context, addr string, got enrolment) error {
	m, c := n.place(), got.Answer
	switch {
	case m.Lineage == (id128{}): // a newcomer
		if err := n.dropAuthority(); err != nil { // of where it was before
			return err
		}
		if err := n.identity.SetGrant(got.Grant); err != nil {
			return err
		}
		return n.setPlace(func(m *member) {
			m.Incarnation, m.Lineage, m.Generation, m.Profile = c.Incarnation, got.lineage, c.Generation, got.profile
		})
	case c.Incarnation == m.Incarnation:
		return n.identity.SetGrant(got.Grant)
	case got.lineage != m.Lineage:
		return n.stranger(ctx, addr)
	case c.Generation == m.Generation:
		if n.refusals.due() {
			n.log.Error("the node at an address is of this cluster, and was recovered apart from this one: keep one of the two, and start the other "+
				"with an empty data directory and --join", "address", addr, "generation", m.Generation)
		}
		return fmt.Errorf("the node at %s was recovered apart from this one, both as generation %d", addr, m.Generation)
	case c.Generation < m.Generation:
		return fmt.Errorf("the node at %s is of generation %d of this cluster, which was recovered since as generation %d", addr, c.Generation, m.Generation)
	}
	n.log.Warn("the cluster was recovered without this node; what this node keeps of the table is thrown away and fetched anew",
		"generation", c.Generation, "was", m.Generation)
	if err := n.dropAuthority(); err != nil {
		return err
	}
	if err := n.identity.SetGrant(got.Grant); err != nil {
		return err
	}
	err := n.setPlace(func(m *member) {
		m.Incarnation, m.Generation, m.Server, m.Settled, m.Forming = c.Incarnation, c.Generation, "", false, false
	})
	if err != nil || n.replica.Load() == nil {
		return err
	}
	return final{ErrSessionOver}
}

// stranger is what is said when a node with data meets a cluster that is not its own. Where an operator told it to join, it
// ends; an address that a node of its own cluster had once may be anybody's now.
func (n *Node) stranger(ctx context.Context, addr string) error {
	m := n.place()
	err := fmt.Errorf("the node at %s is of another cluster named %q, formed apart from the one whose data is in %s: "+
		"to join that one, start this node with an empty data directory and --join %[1]s; "+
		"to go on with its own data, start it without --join", addr, m.Cluster, n.cfg.DataDir)
	for _, said := range n.cfg.Join {
		if slices.Contains(n.resolve(ctx, said), addr) {
			return final{err}
		}
	}
	return err
}

func (n *Node) dropAuthority() error {
	n.authority.Store(nil)
	if n.cfg.DataDir == "" {
		return nil
	}
	if err := os.Remove(n.authorityPath()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// checkJoin finds out whether the addresses to join are of this node's cluster, when it has data of one already. It ends
// when all have answered, with an error if one is not.
func (n *Node) checkJoin(ctx context.Context) error {
	open := map[string]bool{}
	for _, said := range n.cfg.Join {
		for _, addr := range n.resolve(ctx, said) {
			open[addr] = addr != n.nodeAddr
		}
	}
	for pause := firstPause; ; pause = min(2*pause, lineEvery) {
		for addr, wanted := range open {
			if !wanted {
				delete(open, addr)
				continue
			}
			if err := n.compare(ctx, addr); err == nil {
				delete(open, addr)
			} else if end := (final{}); errors.As(err, &end) {
				return end.error
			}
		}
		if len(open) == 0 {
			return nil
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// compare finds out whether the node at an address is of this cluster.
func (n *Node) compare(ctx context.Context, addr string) error {
	limit, cancel := context.WithTimeout(ctx, enterTime)
	defer cancel()
	_, err := n.client.Call(limit, addr, "", control.Status, nil)
	if errors.Is(err, trust.ErrIncarnation) {
		return n.enrolAt(limit, addr)
	}
	return err
}

// takeEnrolment answers a node that proves to know the secret: with a certificate, with who grants some, or with no.
func (n *Node) takeEnrolment(ctx context.Context, from nodeport.Peer, body []byte) ([]byte, error) {
	binding, err := trust.BindingOf(*from.TLS)
	if err != nil {
		return nil, err
	}
	var answer []byte
	asked, err := n.keys.OpenRequest(body, binding)
	if err != nil {
		n.refused(from, "", err)
		answer = trust.Refuse(err)
	} else if answer, err = asked.Answer(n.answerTo(ctx, from, asked)); err != nil {
		return nil, err
	}
	m := n.place()
	out := append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...)
	return append(append(out, m.Lineage[:]...), m.Profile), nil
}

func (n *Node) refused(from nodeport.Peer, node string, why error) {
	n.counts.enrolRefused.Add(1)
	if n.refusals.due() {
		n.log.Warn("an enrolment was refused", "from", from.Remote, "peer", node, "err", why)
	}
}

// answerTo decides what a node that has proved to know the secret is answered.
func (n *Node) answerTo(ctx context.Context, from nodeport.Peer, asked *trust.Asked) trust.Answer {
	m := n.place()
	out := trust.Answer{Cluster: n.keys.Name(), Incarnation: m.Incarnation, Generation: m.Generation}
	if out.Refusal = asked.Check(out.Cluster, m.Lineage); out.Refusal != nil { // before its name is bound to its key
		n.refused(from, asked.NodeID, out.Refusal)
		return out
	}
	if m.Incarnation == (id128{}) || n.replica.Load() == nil {
		out.Refusal = &trust.Refusal{Code: trust.NotNow, Text: "the node that was asked is not a member itself yet"}
		return out
	}
	signs := n.authority.Load()
	if signs == nil {
		if out.Voters = n.voterAddrs(); len(out.Voters) == 0 {
			out.Refusal = &trust.Refusal{Code: trust.NotNow, Text: "the node that was asked knows no voter yet"}
		}
		return out
	}
	if n.table.Generation() == 0 { // it keeps nothing yet, keys included
		out.Refusal = &trust.Refusal{Code: trust.NotNow, Text: "the node that was asked has just begun to form the cluster"}
		return out
	}
	err := n.bindNode(ctx, asked.NodeID, trust.KeyHash(asked.Public))
	if err == nil {
		claims := trust.Claims{Incarnation: m.Incarnation, NodeID: asked.NodeID}
		out.Grant, err = signs.Issue(asked.Public, claims, time.Now(), trust.CertificateLife)
	}
	switch {
	case err == nil:
		n.counts.enrolled.Add(1)
		n.log.Info("a node was granted a certificate", "peer", asked.NodeID)
	case errors.Is(err, ErrRevoked):
		out.Refusal = &trust.Refusal{Code: trust.Revoked, Text: "the node was revoked"}
		n.refused(from, asked.NodeID, err)
	case errors.Is(err, ErrBound):
		out.Refusal = &trust.Refusal{Code: trust.Denied, Text: "the name is bound to another key"}
		n.refused(from, asked.NodeID, err)
	default:
		out.Refusal = &trust.Refusal{Code: trust.NotNow, Text: "the cluster could not note the node's key: ask again"}
		n.log.Warn("an enrolment could not be answered", "peer", asked.NodeID, "err", err)
	}
	return out
}

// bindNode binds a node's id to its key, unless it is bound so already.
func (n *Node) bindNode(ctx context.Context, node string, key [32]byte) error {
	if info, known := n.table.NodeInfo(node); known && info.Key == key && !info.Revoked {
		return nil
	}
	r, err := n.one(ctx, &placement.BindNode{NodeID: node, Key: key})
	switch {
	case err != nil:
		return err
	case r.Outcome == placement.Denied:
		return n.denied(node)
	case r.Outcome != placement.Done:
		return placement.ErrFull
	}
	return nil
}

func (n *Node) voterAddrs() (addrs []string) {
	for _, s := range n.replica.Load().Servers() {
		if s.Voter && len(addrs) < trust.MaxVoters {
			addrs = append(addrs, s.Addr)
		}
	}
	return addrs
}
