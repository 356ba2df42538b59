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
//	GET    /debug/pprof/...                  only when Config.Pprof is set
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
// small interfaces (Node, Instances, States, Apps, Tokens, Source), which
// cmd/trunkline satisfies with edge and cluster.
//
// Goroutines: Server.Run owns one per listener, and net/http's per connection;
// all have ended when Run returns. The client starts none.
package admin
