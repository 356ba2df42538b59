package admin

import (
	"maps"
	"slices"
	"strings"
)

// help is what /metrics says about each name, without the prefix. Whoever adds a
// counter adds its sentence here; a test on an assembled node asks for it.
var help = map[string]string{
	"metrics_refused": "Values of the last scrape that were left out, by reason.",

	"control_calls_total":           "Calls of this node to other nodes.",
	"control_calls_failed_total":    "Calls of this node to other nodes that failed, or of which nobody knows.",
	"node_port_open":                "Connections with other nodes that are open now.",
	"node_port_accepted_total":      "Connections that came in at the node port.",
	"node_port_dialled_total":       "Connections that this node made to other nodes.",
	"node_port_dial_failures_total": "Connections to other nodes that could not be made.",
	"node_port_cut_total":           "Connections that were closed because their node was shut out.",
	"node_port_aged_total":          "Connections between nodes that were ended because they had lasted for an hour.",
	"node_port_refused_total":       "Connections that the node port refused, by reason.",
	"raft_apply_longest_seconds":    "The longest that applying one entry has taken.",

	"table_states":                 "States that have a row in the table.",
	"table_apps":                   "Apps in the table.",
	"table_instances":              "Instances in the table: live, or gone and still named by rows.",
	"table_node_sessions":          "Open node sessions.",
	"table_keys":                   "Public keys that tokens are checked with.",
	"table_index":                  "Index of the last entry applied.",
	"table_batches_total":          "Entries written, each with many commands.",
	"table_commands_total":         "Commands applied.",
	"table_commands_refused_total": "Commands that came too late: what they expected had changed.",
	"table_rows_swept_total":       "Rows removed because nobody asked for them.",
	"table_proposals_waiting":      "Proposals that wait for the writer.",
	"raft_leading":                 "1 while this node leads, by its own knowledge.",
	"raft_term":                    "Term of raft: how many elections there have been, and more.",
	"raft_last_index":              "Index of the last entry in this node's log.",
	"raft_commit_index":            "Index up to which this node knows entries to be committed.",
	"raft_applied_index":           "Index up to which the table of this node has been brought.",
	"raft_entries_proposed_total":  "Entries that were committed by this node's proposals; each carries many commands.",
	"raft_syncs_total":             "Times that the log was made durable.",
	"raft_sync_seconds_total":      "Time spent making the log durable.",
	"raft_sync_longest_seconds":    "The longest time that making the log durable took since the node started.",
	"raft_snapshots_total":         "Snapshots that were taken because the log had grown long.",
	"raft_snapshot_failures_total": "Snapshots that could not be written; the log is kept.",

	"edge_sessions":                        "Client sessions open on this node.",
	"edge_tunnel_connections":              "Tunnel connections open on this node, registered or not.",
	"edge_joins_total":                     "Sessions that were seated in a state.",
	"edge_joins_refused_total":             "Sessions that were not seated, for any reason.",
	"edge_joins_without_instance_total":    "Sessions refused because no instance of their app came within --instance-wait.",
	"edge_unknown_states_limited_total":    "Sessions refused because too many states that nobody knows were asked for.",
	"edge_holds_over_total":                "Rooms whose sessions were closed because no instance came within --hold.",
	"edge_frames_total":                    "Messages that passed between sessions and tunnels, by direction.",
	"edge_broadcasts_total":                "Broadcasts of instances, each counted once.",
	"edge_kicks_total":                     "Sessions that an instance closed.",
	"edge_reader_waits_total":              "Times that the reader of a client waited, by reason.",
	"edge_frames_dropped_total":            "Messages that were not passed on, by reason.",
	"edge_stream_holes_total":              "Holes in what clients of legacy states got, closed by subscribing again.",
	"edge_frames_unacknowledged_total":     "Messages to a legacy instance that died before their delivery was known; they are not repeated.",
	"edge_states_created_total":            "States that were created and answered.",
	"edge_creates_repeated_total":          "Creates that were tried again with another instance.",
	"edge_creates_unanswered_total":        "Created states that a native instance did not accept in time.",
	"edge_placements_total":                "States that were given an instance by this node.",
	"edge_rows_removed_total":              "Rows that this node had removed from the table.",
	"edge_states_released_total":           "States that native instances released.",
	"edge_proposals_failed_total":          "Changes of the table that this node asked for and did not get.",
	"edge_takeovers_total":                 "Tunnels that took over from an older one of the same instance.",
	"edge_instances_gone_total":            "Instances that were declared gone after their grace.",
	"edge_accept_failures_total":           "Tunnel connections that could not be accepted, for lack of descriptors mostly.",
	"edge_guests":                          "Sessions of other nodes' clients in states whose instance is attached here.",
	"edge_routes":                          "Ways between this node's clients and instances on other nodes, or the other way round, by direction.",
	"edge_routes_broken_total":             "Routes to instances on other nodes that ended by themselves; their sessions are opened again.",
	"edge_link_batches_total":              "Batches of frames that came over links, by direction.",
	"edge_arrivals_parked_total":           "Times that something another node sent had to wait here, for the table or for its instance.",
	"edge_not_owner_total":                 "Times that a node asked for a state and was told that it is not there, by direction.",
	"edge_stale_epochs_total":              "Times that another node asked for a state by a row that was no longer true.",
	"edge_table_behind_total":              "Times that another node asked for a state by a row that this node did not know yet.",
	"edge_syncs_cut_total":                 "Times that an instance attached here and not every node said in time whom it has.",
	"edge_notices_refused_total":           "Notices of other nodes that make no sense.",
	"edge_link_overruns_total":             "Routes that were cut because too much waited for the other node, or here for it.",
	"edge_tunnels_refused_total":           "Tunnels refused after their registration, by reason.",
	"edge_tunnels_ended_total":             "Registered tunnels that ended, by reason.",
	"edge_state_holds_total":               "Times that a state with sessions was without its instance and got one again.",
	"edge_state_hold_seconds_total":        "Time that those states waited, added up.",
	"edge_state_hold_longest_seconds":      "The longest of those times since the node started.",
	"tunnel_accepted_total":                "Tunnels whose registration was read, by kind.",
	"tunnel_refused_total":                 "Connections to the tunnel port that did not become tunnels, by reason.",
	"tunnel_ended_total":                   "Tunnels that ended, by kind and reason.",
	"tunnel_frames_total":                  "Frames on tunnels, by kind and direction.",
	"tunnel_skipped_frames_total":          "Frames that came before a registration and were skipped.",
	"tunnel_dropped_total":                 "Messages on tunnels that were dropped, by reason.",
	"client_connections":                   "Clients that are in a state, by protocol.",
	"client_joined_total":                  "Clients that were seated in a state, by protocol revision.",
	"client_sockets":                       "Connections of clients, in a state or not.",
	"client_half_open":                     "Connections that have not said yet what they want.",
	"client_closed_total":                  "Connections of clients that ended, by reason.",
	"client_refused_total":                 "Connections of clients that were refused, by reason.",
	"client_panics_total":                  "Panics in the handling of one client; each ended that client only.",
	"client_pings_total":                   "Pings sent to silent clients.",
	"client_dropped_total":                 "Unreliable messages dropped because much was waiting for their client.",
	"http_requests_total":                  "HTTP requests by endpoint and status.",
	"http_panics_total":                    "Panics in the handling of one request; each ended that request only.",
	"logins_total":                         "Logins by result.",
	"logins_limited_total":                 "Logins refused by --limit-logins-per-ip.",
	"logins_not_kept_total":                "Logins that were answered but not remembered, because the store was behind.",
	"create_replayed_total":                "Creates answered from the memory of their idempotency key.",
	"create_body_bytes":                    "Bytes of create bodies held in memory now.",
	"idempotency_keys":                     "Idempotency keys remembered now.",
	"login_issuers":                        "Identity providers whose keys are known.",
	"login_key_fetches_total":              "Requests for an identity provider's keys.",
	"login_key_fetches_failed_total":       "Requests for an identity provider's keys that failed.",
	"login_store_queued":                   "Logins that wait to be written.",
	"login_store_written_total":            "Logins written.",
	"login_store_refused_total":            "Logins not taken because too many waited to be written.",
	"login_store_write_failures_total":     "Batches of logins that could not be written.",
	"login_store_removed_total":            "Logins removed because --login-retention had passed.",
	"login_store_imported_total":           "Logins taken over from batches of other nodes.",
	"login_store_asks_failed_total":        "Questions to the login stores of other nodes that failed.",
	"tokens_minted_total":                  "Tokens signed.",
	"tokens_refused_total":                 "Tokens refused, by reason.",
	"token_cache_hits_total":               "Tokens found in the cache of checked ones.",
	"token_cache_misses_total":             "Tokens whose signature had to be checked.",
	"token_cache_entries":                  "Tokens in the cache.",
	"certificate_reloads_total":            "Times that changed certificate files were read again, by result.",
	"certificate_expiry_timestamp_seconds": "When the certificate in use expires, in Unix time.",

	"enrolments_refused_total":       "Requests for a certificate that were refused.",
	"enrolments_total":               "Certificates that this node issued to nodes that proved the secret.",
	"gossip_members":                 "Nodes that gossip lists, this one included.",
	"lease_renewals_failed_total":    "Renewals of this node's lease that were not granted.",
	"lease_renewals_total":           "Renewals of this node's lease that were granted.",
	"lease_seconds_left":             "How long this node's lease lasts if it is not renewed; 0: it is not held.",
	"link_bytes_sent_total":          "Bytes sent on links.",
	"link_bytes_total":               "Bytes on links, by direction.",
	"link_connected":                 "1 while this node has a link to that peer, 0 while it wants one and has none.",
	"link_connections_broken_total":  "Connections of links that broke; what was on them is sent again.",
	"link_connections_refused_total": "Connections of links that were refused.",
	"link_dials_failed_total":        "Dials of other nodes for links that failed.",
	"link_faults_total":              "Links that ended because of what their peer sent.",
	"link_frames_total":              "Frames on links, by direction.",
	"link_late_batches_total":        "Batches for ways of instances that had been closed.",
	"link_overflows_total":           "Times that a link was given up because too much waited for its peer.",
	"link_routes":                    "Ways of instances over links to other nodes.",
	"link_streams":                   "Ordered streams to and from other nodes.",
	"link_streams_resumed_total":     "Streams that went on over a new connection, without loss.",
	"link_unacknowledged_bytes":      "Bytes sent to other nodes that they have not acknowledged.",
	"members":                        "Nodes by state, as this node knows: live, suspect, left, gone, revoked.",
	"raft_proposal_waiting_seconds":  "How long the oldest proposal of this node has waited to be committed; 0: none waits.",
	"raft_sync_waiting_seconds":      "How long the log has been waiting for the disk now; 0: it is not.",
	"raft_watchdog_transfers_total":  "Times that this node gave up leading because it could not commit in time.",
	"sessions_expired_total":         "Node sessions that this node, leading, ended because their lease was over.",
	"table_batches_forwarded_total":  "Batches of proposals that this node sent to the leader.",
}

// helpOf answers a name's sentence, or the name in words.
func helpOf(name string) string {
	if text, ok := help[name]; ok {
		return text
	}
	return strings.ReplaceAll(name, "_", " ") + "."
}

// HasHelp says whether a metric, named without its prefix, has a sentence of its
// own.
func HasHelp(name string) bool { _, ok := help[name]; return ok }

// MetricHelp is one line of the metrics reference.
type MetricHelp struct {
	Name string // with the prefix
	Text string
}

// MetricsReference lists every known metric by name.
func MetricsReference() []MetricHelp {
	list := make([]MetricHelp, 0, len(help))
	for _, name := range slices.Sorted(maps.Keys(help)) {
		list = append(list, MetricHelp{prefix + name, help[name]})
	}
	return list
}
