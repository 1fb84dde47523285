// Package probe says what a probe of `gateway verify` is: an action that would be a
// way out of a sandbox if it worked, what it aims at, and what became of it. It makes
// no attempt itself; the groups of probes are the other folders under verify, and
// verify/battery runs and judges them.
package probe

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/verify"
)

// Group is a heading of the report.
type Group string

// The groups, in the order of the report.
const (
	Addresses Group = "addresses"
	Host      Group = "host"
	DNS       Group = "dns"
	Proxy     Group = "proxy"
	Model     Group = "model endpoint"
	Container Group = "container"
)

// Probe is one way out. All fields but Needs, Own and Alone are required.
type Probe struct {
	Name   string // unique, of lower-case letters, digits and hyphens
	Group  Group
	Why    string // one line: what an attacker gains by it
	Source string // the CVE, advisory, RFC, kernel version or issue that Why rests on
	// Try makes the attempt, and has ended when it returns, at ctx's end at the
	// latest. The same function runs in a sandbox and, as the control that shows
	// that the attempt can succeed, in settings that allow more.
	Try func(ctx context.Context, t Target) Finding
	// Needs are the capabilities that the control's unconfined container is given, as
	// Docker names them ("NET_RAW"); it has Docker's default ones besides.
	Needs []string
	// Own starts, in a container without a network, what the attempt succeeds
	// against (an open proxy, a resolver that forwards, a listener at the target's
	// address on lo), and points t at it. It listens when Own returns and ends with
	// ctx. Nil: there is no such control.
	Own func(ctx context.Context, t *Target) error
	// Alone has it run by itself, not beside others: it measures, or it changes
	// its process.
	Alone bool
}

// Setting is where a probe runs.
type Setting string

// The settings: the one that is judged, and the controls, the weakest last.
const (
	Sandbox     Setting = "sandbox"              // in the network of a sandbox
	Ordinary    Setting = "ordinary container"   // as the engine starts one by default, beside a listener of verify's own
	Unconfined  Setting = "unconfined container" // the same, seccomp=unconfined, with Needs
	OwnListener Setting = "own listener"         // unconfined, without a network, after Own
	BeforeEnd   Setting = "sandbox, before its end"
)

// Target is where a run aims and where it runs. What is not there in a setting is
// zero; a probe that needs it then returns Missing.
type Target struct {
	Setting Setting `json:"setting"`
	Run     string  `json:"run"`  // 8 hexadecimal digits, in the names and payloads of one run
	Root    bool    `json:"root"` // it runs as root with Docker's default capabilities; else as the agent

	// Public4 and Public6 stand for the internet: TCP listens and UDP is answered on
	// Ports there by a peer that says Greeting; ICMP echo is answered.
	Public4 netip.Addr `json:"public4"`
	Public6 netip.Addr `json:"public6"`

	Own4      netip.Addr     `json:"own4"` // this sandbox's own
	Own6      netip.Addr     `json:"own6"`
	Gate4     netip.Addr     `json:"gate4"` // the wall's end of its wire
	Gate6     netip.Addr     `json:"gate6"`
	Resolver  netip.AddrPort `json:"resolver"`  // of resolv.conf
	Proxy     netip.AddrPort `json:"proxy"`     // the forward proxy
	Model     netip.AddrPort `json:"model"`     // the model endpoint
	ModelName string         `json:"modelName"` // as it is asked for in a request

	Other4     netip.Addr     `json:"other4"`     // another sandbox's own address
	OtherModel netip.AddrPort `json:"otherModel"` // another sandbox's model endpoint, as that sandbox sees it
	Second     netip.AddrPort `json:"second"`     // a listener in another network of the engine

	Host HostTarget `json:"host"`

	// Rebinds are names that an allow rule names and that resolve, outside, to a
	// private address or one of the host; empty unless the user named some.
	Rebinds []string `json:"rebinds,omitempty"`

	Project string `json:"project"` // folder of the host that is mounted writable; empty: none
	Home    string `json:"home"`    // the agent's; empty: none
}

// HostTarget is what verify listens on, and knows of, on the host itself.
type HostTarget struct {
	Addrs     []netip.Addr `json:"addrs,omitempty"`     // of its interfaces, lo left out; bridges included
	TCP       []uint16     `json:"tcp,omitempty"`       // ports that something listens on, the trap's among them
	UDP       []uint16     `json:"udp,omitempty"`       // the same
	TrapTCP   uint16       `json:"trapTCP,omitempty"`   // verify's own listener at each of Addrs and 127.0.0.1
	TrapUDP   uint16       `json:"trapUDP,omitempty"`   // the same for datagrams
	Abstract  string       `json:"abstract,omitempty"`  // name of verify's own abstract unix socket, without the leading NUL
	Sockets   []string     `json:"sockets,omitempty"`   // paths of the gateway's and engine's sockets and of our folders
	Listeners []string     `json:"listeners,omitempty"` // the gateway's page and metrics, address:port
	PID       int          `json:"pid,omitempty"`       // verify's own process, as the host numbers it
	Started   uint64       `json:"started,omitempty"`   // when it was, field 22 of /proc/PID/stat: another process may have its number inside
}

// Ports are what the peer at Public4 and Public6 listens on, TCP and UDP.
var Ports = []uint16{22, 25, 53, 80, 123, 443, 853, 3478, 4433, 8443, 47123}

// Greeting is what the peer sends first on TCP, and answers to a datagram.
const Greeting = "sallyport peer\n"

// Finding is what became of an attempt. The zero Finding proves nothing.
type Finding struct {
	// Outcome is Reached where the attempt did what an attacker wants, be it an
	// answer from outside or a mount that succeeded.
	Outcome verify.Outcome `json:"outcome"`
	Detail  string         `json:"detail"`          // one line; what came from outside is quoted and bounded
	Errno   string         `json:"errno,omitempty"` // the error's name ("EPERM"), where Outcome is StoppedInside
	// Events must each be in the record, refused, where Outcome is Blocked, and
	// there must be one at least.
	Events []Event `json:"events,omitempty"`
	// Absent says that Target lacks what the probe aims at: it was not made.
	Absent bool `json:"absent,omitempty"`
}

// Event is what the record must hold. A zero field matches anything.
type Event struct {
	Layer audit.Layer `json:"layer,omitempty"`
	Proto string      `json:"proto,omitempty"`
	Dst   string      `json:"dst,omitempty"`  // as audit.Event has it: "address:port", or an address for what has no ports
	Host  string      `json:"host,omitempty"` // the same, in lower case
	Rule  string      `json:"rule,omitempty"`
	// Method and Path are for requests that no host is recorded of: malformed ones.
	Method string `json:"method,omitempty"`
	Path   string `json:"path,omitempty"`
	Status int    `json:"status,omitempty"` // that the client got
	// Allowed wants an event of what was let through, in place of a refusal: a request
	// to the model whose answer was refused, or came without what was wrong with it.
	Allowed bool   `json:"allowed,omitempty"`
	Reason  string `json:"reason,omitempty"` // part of it
}

// Payload is what a probe sends where it may choose: it tells listeners of verify's
// own who reached them.
func (t Target) Payload(name string) []byte {
	return fmt.Appendf(nil, "sallyport %s %s\n", t.Run, name)
}

// Name returns a DNS name of this run under .example (RFC 2606).
func (t Target) Name(label string) string { return label + "-" + t.Run + ".example" }
