// Package admin is the operators' port of a node, and the client that the
// command line's verbs use to talk to it.
//
// The port serves, over HTTP/1.1:
//
//	GET    /metrics                          Prometheus text, prefix trunkline_
//	GET    /livez                            200 while the process answers
//	GET    /readyz[?verbose]                 200 while the node takes new work; verbose: JSON, one entry per check
//	GET    /v1/status                        what this node is and how much it holds
//	GET    /v1/apps                          all apps
//	POST   /v1/apps                          make an app (its secret is in the answer, once)
//	GET    /v1/apps/{app}                    one app
//	PATCH  /v1/apps/{app}                    change its settings
//	DELETE /v1/apps/{app}                    forget it
//	POST   /v1/apps/{app}/secrets            add a secret
//	DELETE /v1/apps/{app}/secrets/{id}       remove the secret of that fingerprint
//	POST   /v1/apps/{app}/tokens             mint a test token
//	GET    /v1/instances[?app=]              backends
//	GET    /v1/states[?app=&limit=&after=]   states, in the order of app and id
//	GET    /v1/states/{state}[?app=]         where one state lives
//	GET    /v1/members                       nodes
//	GET    /v1/cluster                       how every node is, asked of all at once
//	GET    /v1/raft/peers                    raft's configuration
//	POST   /v1/leave                         take this node out of the cluster
//	DELETE /v1/members/{node}                take another one out that will not come back
//	POST   /v1/members/{node}/revoke         refuse its certificate for good
//	GET    /v1/snapshot                      the table as a snapshot file
//	GET    /v1/keys                          fingerprints of the cluster's secrets, and who has them
//	POST   /v1/keys                          add a secret on every live member
//	POST   /v1/keys/{id}/use                 make it the primary one
//	DELETE /v1/keys/{id}                     drop it
//	GET    /debug/pprof/...                  only when Config.Pprof is set
//
// What reads below /v1, but the snapshot, and /readyz?verbose take ?node=NAME:
// any node answers for any other. A node that another one asks (Server.Answer)
// answers what reads and never asks a third.
//
// Errors are {"error":{"code":"...","message":"..."}}; the message says what to
// do next.
//
// What it refuses: a listener beyond loopback without a bearer token; with a
// token, every request that does not carry it (compared in constant time) except
// the two health checks without detail; without a token, every request whose
// Host is not a loopback name, so that a web page cannot reach the port by
// rebinding its own name to 127.0.0.1; requests that a browser sends for another
// site; bodies above 64 KiB; metrics with a label that names a user, a state or a
// connection, and the 501st series of one name.
//
// The package holds no state of the coordinator. What it lists it is handed as
// small interfaces (Node, Instances, States, Apps, Tokens, Cluster, Source),
// which cmd/trunkline satisfies with edge and cluster. A snapshot is streamed;
// what fails after its first byte cuts the answer off.
//
// Goroutines: Server.Run owns one per listener, and net/http's per connection;
// all have ended when Run returns. The client starts none.
package admin
