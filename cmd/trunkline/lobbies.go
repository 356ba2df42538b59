package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/singleflight"

	"github.com/trunkline-edge/trunkline/cluster/control"
	"github.com/trunkline-edge/trunkline/cluster/nodeport"
	"github.com/trunkline-edge/trunkline/edge"
	"github.com/trunkline-edge/trunkline/edge/api"
	"github.com/trunkline-edge/trunkline/wire"
)

const (
	// lobbyTime is how long other nodes may take to say which lobbies they know, lobbyLife how long that is good for.
	lobbyTime = time.Second
	lobbyLife = time.Second
	// maxLobbyLists bounds the lists that are kept meanwhile, maxLobbyAnswer the lobbies of one node's answer: such a call
	// carries 1 MiB.
	maxLobbyLists  = 256
	maxLobbyAnswer = 1000
)

// rooms are the router's, with the lobbies that other nodes have made beside its own: a lobby is remembered by the node
// that was asked for it. Listing them is open to anybody, so what others have said is good for a moment.
type rooms struct {
	*edge.Router
	node *node
	asks singleflight.Group

	mu    sync.Mutex
	lists map[lobbyQuestion]lobbyList
}

// lobbyQuestion asks a node for the lobbies that it remembers.
type lobbyQuestion struct {
	App    wire.AppID `json:"app"`
	Region string     `json:"region"`
}

type lobbyList struct {
	list  []api.Lobby
	until time.Time
}

// Lobbies returns up to limit public lobbies, of all nodes, newest first.
func (r *rooms) Lobbies(app wire.AppID, region string, limit int) []api.Lobby {
	out := slices.Concat(r.Router.Lobbies(app, region, limit), r.others(lobbyQuestion{app, region}))
	slices.SortStableFunc(out, func(a, b api.Lobby) int { return b.CreatedAt.Compare(a.CreatedAt) })
	return out[:min(len(out), limit)]
}

// others are the lobbies that other nodes know, as of a moment ago.
func (r *rooms) others(q lobbyQuestion) []api.Lobby {
	r.mu.Lock()
	known := r.lists[q]
	r.mu.Unlock()
	if time.Now().Before(known.until) {
		return known.list
	}
	got, _, _ := r.asks.Do(q.App.String()+q.Region, func() (any, error) {
		list := r.ask(q)
		now := time.Now()
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.lists) >= maxLobbyLists || r.lists == nil {
			r.lists = make(map[lobbyQuestion]lobbyList)
		}
		r.lists[q] = lobbyList{list, now.Add(lobbyLife)}
		return list, nil
	})
	return got.([]api.Lobby)
}

// ask asks all other nodes. One that does not answer in time has no lobbies this time.
func (r *rooms) ask(q lobbyQuestion) []api.Lobby {
	ctx, cancel := context.WithTimeout(context.Background(), lobbyTime)
	defer cancel()
	body, err := json.Marshal(q)
	if err != nil {
		return nil
	}
	var mu sync.Mutex
	var all []api.Lobby
	var g errgroup.Group
	g.SetLimit(16)
	for name, s := range latestSessions(r.node.table.Table()) {
		if name == r.node.settings.NodeID {
			continue
		}
		g.Go(func() error {
			answer, err := r.node.table.Call(ctx, s.ID, control.Lobbies, body)
			var list []api.Lobby
			if err == nil && json.Unmarshal(answer, &list) == nil {
				mu.Lock()
				all = append(all, list...)
				mu.Unlock()
			}
			return nil
		})
	}
	_ = g.Wait()
	return all
}

// answerLobbies says which lobbies this node remembers.
func (n *node) answerLobbies(_ context.Context, _ nodeport.Peer, body []byte) ([]byte, error) {
	var q lobbyQuestion
	if err := json.Unmarshal(body, &q); err != nil {
		return nil, fmt.Errorf("a question for lobbies: %w", err)
	}
	if !n.joined.Load() {
		return nil, errNotUp
	}
	list := n.router.Lobbies(q.App, q.Region, maxLobbyAnswer)
	if list == nil {
		list = []api.Lobby{}
	}
	return json.Marshal(list)
}
