package cluster

// HoldAdmitting takes the turn in which a leader changes the servers, and returns what gives it back.
func HoldAdmitting(n *Node) (done func()) { return n.admitting.take() }
