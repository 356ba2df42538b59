package client

import (
	"bytes"
	"strings"

	"github.com/trunkline-edge/trunkline/wire"
)

// protocol is what a session's bytes look like.
type protocol uint8

const (
	protoWS        protocol = iota // WebSocket, revisions A to E
	protoWSNative                  // WebSocket, subprotocol trunkline.v1
	protoTCP                       // port 7148, legacy
	protoTCPNative                 // port 7148, TRK1
	protocols
)

var protocolNames = [protocols]string{"ws", "ws_native", "tcp", "tcp_native"}

// subprotocol is what a WebSocket client asks for to speak native frames.
const subprotocol = "trunkline.v1"

// route is what the URL of an upgrade asks for.
type route uint8

const (
	routeNone    route = iota // nothing of ours
	routeApp                  // /{appID}: revision A, B or C, by the first message
	routeConnect              // /connect/{appID}: revision D, or native by subprotocol
	routeRoom                 // /{room}?token=: revision E
)

// findRoute reads the path of an upgrade. For the first two routes app is set, for the last room is the text of the
// state, which has not been looked at.
func findRoute(path []byte) (r route, app wire.AppID, room string) {
	segment, ok := bytes.CutPrefix(path, []byte("/"))
	if !ok {
		return routeNone, app, ""
	}
	if id, ok := bytes.CutPrefix(segment, []byte("connect/")); ok {
		app, err := wire.ParseAppID(string(id))
		if err != nil {
			return routeNone, app, ""
		}
		return routeConnect, app, ""
	}
	if bytes.IndexByte(segment, '/') >= 0 {
		return routeNone, app, ""
	}
	if app, err := wire.ParseAppID(string(segment)); err == nil {
		return routeApp, app, ""
	}
	return routeRoom, app, string(segment)
}

// urlToken takes the token out of a query the way server-sdk 1.1.0 does: "token=" must occur exactly once, and all that
// follows is the token.
func urlToken(query []byte) (token string, ok bool) {
	q := string(query)
	if strings.Count(q, "token=") != 1 {
		return "", false
	}
	_, token, _ = strings.Cut(q, "token=")
	return token, token != ""
}
