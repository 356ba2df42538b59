// Package trust keeps the secrets of a cluster and says from them, and from certificates, who is a node of it.
//
// # The key file
//
// Every node of a cluster has the same one, made by Generate:
//
//	trunkline-key 1 games
//	AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA
//	ZWZnaGlqa2xtbm9wcXJzdHV2d3h5ent8fX5_gIGCg4Q primary
//
// The first line has the version of the format and the cluster's name, each other line a secret: 32 bytes in base64url.
// All are accepted; the one marked primary is used where only one can be, for encrypting gossip. A secret is known to
// people by its id, which tells nothing of it. What is done with a secret is done with keys derived from it (HKDF-SHA256,
// one label for each purpose).
//
// Keys change in three steps, each on all nodes before the next: Add, Use, Drop. Each rewrites the file, atomically, and
// each may be repeated. A file that somebody has changed by hand is not written over.
//
// # What it refuses
//
// Files with secrets that others than their owner may use, links, and what is no plain file, with a sentence that says
// what to do.
//
// The package starts no goroutine.
package trust
