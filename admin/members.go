package admin

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// withCluster answers the request itself where the node has no cluster to tell of.
func (s *Server) withCluster(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if s.deps.Cluster == nil {
			answerError(w, http.StatusNotImplemented, "no_cluster", "this node is not part of a cluster")
			return
		}
		h(w, r)
	}
}

func (s *Server) members(w http.ResponseWriter, r *http.Request) {
	list, err := s.deps.Cluster.Members(r.Context())
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	answer(w, http.StatusOK, MemberList{Members: notNil(list)})
}

func (s *Server) clusterStatus(w http.ResponseWriter, r *http.Request) {
	st, err := s.deps.Cluster.ClusterStatus(r.Context())
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	st.conclude()
	answer(w, http.StatusOK, st)
}

// conclude fills in what follows from the answers of all nodes: how far each is behind, and which pairs cannot reach each
// other.
func (c *ClusterStatus) conclude() {
	var committed uint64
	answered := make(map[string]bool)
	for _, n := range c.Nodes {
		committed = max(committed, n.CommitIndex)
		answered[n.NodeID] = n.Error == ""
	}
	c.Voters, c.Unreachable = notNil(c.Voters), []Pair{}
	for i := range c.Nodes {
		n := &c.Nodes[i]
		n.Links = notNil(n.Links)
		if n.Error != "" {
			continue
		}
		n.Lag = committed - min(committed, n.AppliedIndex)
		for _, l := range n.Links {
			if !l.Connected && answered[l.Peer] {
				c.addPair(Pair{From: n.NodeID, To: l.Peer, Since: l.Since, Error: l.Error})
			}
		}
	}
	c.Nodes = notNil(c.Nodes)
}

// addPair keeps one entry for two nodes, the one that says more.
func (c *ClusterStatus) addPair(p Pair) {
	i := slices.IndexFunc(c.Unreachable, func(o Pair) bool {
		return o.From == p.To && o.To == p.From || o.From == p.From && o.To == p.To
	})
	switch {
	case i < 0:
		c.Unreachable = append(c.Unreachable, p)
	case c.Unreachable[i].Error == "":
		c.Unreachable[i] = p
	}
}

func (s *Server) peers(w http.ResponseWriter, r *http.Request) {
	peers, err := s.deps.Cluster.Peers(r.Context())
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	peers.Peers = notNil(peers.Peers)
	answer(w, http.StatusOK, peers)
}

func (s *Server) leave(w http.ResponseWriter, r *http.Request) {
	if err := s.deps.Cluster.Leave(r.Context()); err != nil {
		s.refuse(w, r, err)
		return
	}
	answer(w, http.StatusOK, Removed{NodeID: s.cfg.NodeID})
}

func (s *Server) forceRemove(w http.ResponseWriter, r *http.Request) {
	node, ok := nodePath(w, r)
	if !ok {
		return
	}
	if err := s.deps.Cluster.ForceRemove(r.Context(), node); err != nil {
		s.refuse(w, r, err)
		return
	}
	answer(w, http.StatusOK, Removed{NodeID: node})
}

func (s *Server) revoke(w http.ResponseWriter, r *http.Request) {
	node, ok := nodePath(w, r)
	if !ok {
		return
	}
	if err := s.deps.Cluster.Revoke(r.Context(), node); err != nil {
		s.refuse(w, r, err)
		return
	}
	answer(w, http.StatusOK, Removed{NodeID: node})
}

var nodeName = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,62}[a-z0-9])?$`)

// nodePath reads {node}; it answers the request itself when that cannot be one.
func nodePath(w http.ResponseWriter, r *http.Request) (string, bool) {
	node := r.PathValue("node")
	if !nodeName.MatchString(node) {
		badRequest(w, "node: a name has 1 to 64 lowercase letters, digits, dots and dashes, as `trunkline members` shows it")
		return "", false
	}
	return node, true
}

// snapshot streams the table. What fails after the first byte cuts the answer off, so that nobody takes it for whole.
func (s *Server) snapshot(w http.ResponseWriter, r *http.Request) {
	out := &begun{w: w}
	w.Header().Set("Content-Type", "application/octet-stream")
	err := s.deps.Cluster.Snapshot(r.Context(), out)
	switch {
	case err == nil:
	case !out.any:
		s.refuse(w, r, err)
	default:
		s.cfg.Log.Error("a snapshot was cut off", "err", err)
		panic(http.ErrAbortHandler)
	}
}

// begun knows whether anything has been written.
type begun struct {
	w   io.Writer
	any bool
}

// Write passes p on.
func (b *begun) Write(p []byte) (int, error) {
	b.any = true
	return b.w.Write(p)
}

func (s *Server) keys(w http.ResponseWriter, r *http.Request) {
	list, err := s.deps.Cluster.Keys(r.Context())
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	list.Keys, list.Members = notNil(list.Keys), notNil(list.Members)
	for i := range list.Keys {
		list.Keys[i].Missing = notNil(list.Keys[i].Missing)
	}
	for i := range list.Members {
		list.Members[i].Keys = notNil(list.Members[i].Keys)
	}
	answer(w, http.StatusOK, list)
}

func (s *Server) addKey(w http.ResponseWriter, r *http.Request) {
	var req AddKey
	if !decode(w, r, &req) {
		return
	}
	if len(req.Secret) > maxSecretLength {
		s.refuse(w, r, fmt.Errorf("a secret has at most %d bytes: %w", maxSecretLength, ErrRefused))
		return
	}
	id, err := s.deps.Cluster.AddKey(r.Context(), req.Secret)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	answer(w, http.StatusCreated, KeyID{ID: id})
}

func (s *Server) useKey(w http.ResponseWriter, r *http.Request) {
	id, ok := keyPath(w, r)
	if !ok {
		return
	}
	if err := s.deps.Cluster.UseKey(r.Context(), id); err != nil {
		s.refuse(w, r, err)
		return
	}
	answer(w, http.StatusOK, KeyID{ID: id})
}

func (s *Server) dropKey(w http.ResponseWriter, r *http.Request) {
	id, ok := keyPath(w, r)
	if !ok {
		return
	}
	if err := s.deps.Cluster.DropKey(r.Context(), id); err != nil {
		s.refuse(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// maxKeyID bounds the id of a key.
const maxKeyID = 64

func keyPath(w http.ResponseWriter, r *http.Request) (string, bool) {
	id := r.PathValue("id")
	if len(id) > maxKeyID || strings.ContainsFunc(id, func(c rune) bool { return c <= ' ' || c > '~' }) {
		badRequest(w, "key: want an id as `trunkline key status` shows it")
		return "", false
	}
	return id, true
}
