package control

import "fmt"

// Verb is what a call asks for. A number is never used for something else.
type Verb uint8

const (
	Enrol     Verb = 1  // give me a certificate: here is the proof that I know the cluster's secret
	Enter     Verb = 2  // make me a replica, here is where I am
	Propose   Verb = 3  // have this command committed
	Renew     Verb = 4  // prolong my lease
	Probe     Verb = 5  // is the process behind that tunnel alive
	Logins    Verb = 6  // take these login records
	Keys      Verb = 7  // add, use or drop a secret, or say which there are
	Status    Verb = 8  // say how you are
	Leave     Verb = 9  // take me, or somebody, out
	Authority Verb = 10 // give me what signs certificates
	Gossip    Verb = 11 // where do members gossip
	Operators Verb = 12 // answer an operator's request that came to me
	Lobbies   Verb = 13 // which lobbies do you remember

	beat   Verb = 254
	cancel Verb = 255
)

var verbs = [...]string{
	Enrol: "enrol", Enter: "enter", Propose: "propose", Renew: "renew", Probe: "probe", Logins: "logins", Keys: "keys",
	Status: "status", Leave: "leave", Authority: "authority", Gossip: "gossip", Operators: "operators", Lobbies: "lobbies",
}

func (v Verb) String() string {
	if int(v) < len(verbs) && verbs[v] != "" {
		return verbs[v]
	}
	return fmt.Sprintf("verb %d", uint8(v))
}

// anonymous says whether a peer without certificate may ask for it.
func (v Verb) anonymous() bool { return v == Enrol }
