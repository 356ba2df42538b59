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
// # Certificates
//
// An Authority belongs to a cluster and is known to its voters; it signs certificates of 30 days. An Identity is a node's
// own: its Ed25519 key pair, made once in its folder, and its present certificate. A certificate says, in its one URI, of
// which incarnation of the cluster it is and of which node, and in its organizational unit that it is one of a node:
//
//	trunkline://<incarnation, 32 hex digits>/<node id, escaped>
//
// ServerTLS and ClientTLS speak TLS 1.3 only and check the other end alike: one certificate of a node, of our incarnation,
// signed by our authority for this use, valid now, and not refused by the function that was handed in, which is where
// a caller compares with what the cluster knows of that node (its key, that it is not revoked). ClientTLS also compares
// the node with the one that was to be reached. A new certificate counts from the next handshake on; connections that
// are there stay. Validity is compared with the wall clock and begins an hour before a certificate is made, so clocks may
// be apart by that.
//
// # Enrolment
//
// A node that has no certificate, or only one that has expired, asks any node for one over a connection made with EnrolTLS
// (one that has a good one asks in the same way, over any connection). It sends a request: its id, its public key, the
// cluster's name, the incarnation it has been in. With it go MACs made with every secret that it has, over the request and
// over key material of that very TLS connection (Binding), so whoever sits between the two can neither make nor pass on
// one. The other end accepts any secret that it has too, and proves the same one in its answer, which covers the request:
// a certificate, or the addresses of voters, who can give one, or a refusal. All answers that are proved say of which
// cluster and incarnation they are, and how often that was recovered. Who has none of our secrets gets a refusal without
// proof, and learns nothing. The asker takes an unproved refusal for what it is, the word of anybody, and nothing
// else without proof. enrol_bytes.go has the bytes.
//
//	asker    Identity.NewRequest, Keys.SealRequest                        Keys.OpenAnswer, Identity.SetGrant
//	asked                           Keys.OpenRequest, Asked.Check, Asked.Answer or Refuse
//
// A request does not prove that the asker has the private key: a certificate for a key that one does not have opens
// nothing.
//
// # What it refuses
//
// Files with secrets that others than their owner may use, links, and what is no plain file, with a sentence that says
// what to do. Keys that are not Ed25519, chains of more than one certificate, names written in another way than ours,
// TLS below 1.3, resumed sessions. Requests above 1 KiB, answers above 16 KiB, whatever has a byte too many.
//
// The package starts no goroutine.
package trust
