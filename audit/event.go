// Package audit holds the record of what sandboxes tried: one event per attempt,
// or per many of a kind, written to an SQLite database before the attempt is
// answered, each chained to the one before by its hash, and the reading of it. It does not decide anything (package policy does) and it is not a log:
// what the program does about itself goes to slog.
package audit

import "time"

// Layer says where an attempt was seen.
type Layer string

// The layers.
const (
	LayerModel     Layer = "model"     // an HTTP request at the model endpoint
	LayerProxy     Layer = "proxy"     // a request at the forward proxy
	LayerIntercept Layer = "intercept" // a TCP connection to any other address or port
	LayerDNS       Layer = "dns"       // one DNS query message
	LayerPacket    Layer = "packet"    // one flow of anything else, by NFLOG
	LayerControl   Layer = "control"   // something about the wall itself: an unknown token, a foreign interface
)

// AgentProof is the Agent of what the launcher itself tries in a sandbox, before an
// agent starts.
const AgentProof = "proof"

// Subject says whose attempt it was. The zero Subject is recorded as "unknown".
type Subject struct {
	Sandbox string `json:"sandbox"`
	Agent   string `json:"agent"`
	Model   string `json:"model"`
	Project string `json:"project"`
}

// Event is one attempt. Field names in JSON are stable. Strings that came from a
// container are bounded by Store.Append (see MaxField) and may hold any byte: print
// them with Printable.
type Event struct {
	Time time.Time `json:"time"` // UTC, RFC 3339 with nanoseconds; zero: set by Append
	ID   string    `json:"id"`   // sorts by time; empty: set by Append
	Subject
	Layer     Layer   `json:"layer"`
	Proto     string  `json:"proto"`                // "tcp", "udp", "icmp", "icmpv6", or the IP protocol's number
	Src       string  `json:"src,omitempty"`        // address:port, or address
	Dst       string  `json:"dst,omitempty"`        // address:port, or address, as the container aimed it
	Host      string  `json:"host,omitempty"`       // the name it asked for, when one is known
	Port      uint16  `json:"port,omitempty"`       // the port it asked for
	SNI       string  `json:"sni,omitempty"`        // TLS server_name: the client's claim
	Method    string  `json:"method,omitempty"`     // HTTP method, or DNS query type ("A", "HTTPS", …)
	Path      string  `json:"path,omitempty"`       // HTTP path, without the query
	Verdict   string  `json:"verdict"`              // policy.Verdict.String()
	Rule      string  `json:"rule,omitempty"`       // the rule that decided
	Reason    string  `json:"reason,omitempty"`     // one line
	Status    int     `json:"status,omitempty"`     // HTTP status that the client got
	BytesIn   int64   `json:"bytes_in"`             // from the container
	BytesOut  int64   `json:"bytes_out"`            // to the container
	Duration  float64 `json:"duration"`             // seconds
	Count     int64   `json:"count"`                // attempts, or packets of a flow; zero: set to 1
	TokensIn  int64   `json:"tokens_in,omitempty"`  // model layer: usage as the model reported it
	TokensOut int64   `json:"tokens_out,omitempty"` // model layer
	// FirstToken is how long the first piece of a streamed answer took, in seconds
	// since the request came; zero: none came, or it was not streamed.
	FirstToken float64 `json:"first_token,omitempty"`
	// TokensPerSecond is TokensOut by the time from the first piece to the last;
	// zero: not known.
	TokensPerSecond float64 `json:"tokens_per_second,omitempty"`
	Session         string  `json:"session,omitempty"` // model layer: X-Claude-Code-Session-Id
	// Process is who made the attempt; nil: it was not looked for.
	Process *Process `json:"process,omitempty"`
	// RepeatOf is the id of an earlier event of which this one only counts the
	// repeats: Count of them, the first at First, the last at Last.
	RepeatOf string    `json:"repeat_of,omitempty"`
	First    time.Time `json:"first,omitzero"`
	Last     time.Time `json:"last,omitzero"`
	// Open marks repeats that are still being counted: not part of the chain yet.
	Open bool `json:"open,omitempty"`
	// Lost is how many attempts are known by their number only; such an event has
	// nothing else to say of them. About: at most so many.
	Lost  int64 `json:"lost,omitempty"`
	About bool  `json:"about,omitempty"`
}

// Process is the process that made an attempt, as /proc told when it was decided.
// All but PID and UID are the container's claims.
type Process struct {
	PID     int      `json:"pid,omitempty"`     // in the container; zero: unknown
	UID     int      `json:"uid"`               // in the container
	Exe     string   `json:"exe,omitempty"`     // path in the container
	Command string   `json:"command,omitempty"` // arguments, secrets masked
	Parents []Parent `json:"parents,omitempty"` // the nearest first, up to the container's first process
	// Unknown is why nothing else is known; empty: it is.
	Unknown string `json:"unknown,omitempty"`
}

// Parent is one process of a Process's parents.
type Parent struct {
	PID  int    `json:"pid"`
	Name string `json:"name"` // of its executable, without folder
}
