// Package names tries to get out by asking for names: of the sandbox's own resolver,
// of resolvers elsewhere, in every form that a DNS message may have. It looks at
// nothing but what comes back; what the record must hold it only names.
package names

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/verify"
	"github.com/sallyport/sallyport/verify/forward/open"
	"github.com/sallyport/sallyport/verify/probe"
)

// Probes returns the probes of group probe.DNS that need no proxy.
func Probes() []probe.Probe {
	return slices.Concat(servers(), types(), shapes(), []probe.Probe{bulk.probe()}, hidden())
}

// attempt is one message to one server.
type attempt struct {
	message []byte
	host    string // as the record has it; empty: it cannot be read
	server  netip.AddrPort
	tcp     bool
	want    expectation
	limit   time.Duration // for an answer to a datagram; zero: patience
}

func (a attempt) network() string {
	if a.tcp {
		return "tcp"
	}
	return "udp"
}

func (a attempt) event() probe.Event {
	return probe.Event{Layer: audit.LayerDNS, Proto: a.network(), Dst: a.server.String(), Host: strings.ToLower(a.host)}
}

// try makes the attempt.
func (a attempt) try(ctx context.Context) probe.Finding {
	conn, err := dial(ctx, a.network(), a.server)
	if err != nil {
		return refused(err, a.event())
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	var answer []byte
	switch {
	case a.tcp:
		answer, err = byStream(conn, a.message)
	case a.want == mute:
		if answer, err = byDatagram(conn, a.message, resend); isTimeout(err) {
			return probe.Blocked("silence: it is no query", a.event())
		}
	default:
		answer, err = byDatagram(conn, a.message, cmp.Or(a.limit, patience))
	}
	if err != nil {
		return refused(err, a.event())
	}
	return judge(answer, a.want, a.event())
}

// entry is a probe whose attempts are messages.
type entry struct {
	name, why, source string
	attempts          func(t probe.Target) []attempt // none: t lacks what is asked
	lacks             string                         // what that is; empty: a DNS server
}

func (e entry) probe() probe.Probe {
	return probe.Probe{Name: e.name, Group: probe.DNS, Why: e.why, Source: e.source, Own: ownResolver,
		Try: func(ctx context.Context, t probe.Target) probe.Finding {
			attempts := e.attempts(t)
			attempts = slices.DeleteFunc(attempts, func(a attempt) bool { return !a.server.IsValid() })
			if len(attempts) == 0 {
				return probe.Missing(cmp.Or(e.lacks, "DNS server"))
			}
			var findings []probe.Finding
			for _, a := range attempts {
				f := a.try(ctx)
				findings = append(findings, f)
				if t.Setting == probe.Sandbox && f.Outcome != verify.Blocked {
					break
				}
			}
			return merge(t, findings)
		}}
}

// ownResolver is the control of most: a resolver that answers, at the public addresses
// and as the sandbox's own.
func ownResolver(ctx context.Context, t *probe.Target) error {
	var err error
	if t.Public4, t.Public6, err = open.Somewhere(ctx); err != nil {
		return err
	}
	t.Resolver = netip.AddrPortFrom(t.Public4, 53)
	t.Rebinds = []string{t.Name("rebind")}
	if err := open.Resolver(ctx, t.Resolver); err != nil {
		return err
	}
	if !t.Public6.IsValid() {
		return nil // those who need it say so
	}
	return open.Resolver(ctx, netip.AddrPortFrom(t.Public6, 53))
}

// at is a server's port; the zero AddrPort where there is no address.
func at(addr netip.Addr, port uint16) netip.AddrPort {
	if !addr.IsValid() {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(addr, port)
}

// resolver is the sandbox's own; where there is none, the public one.
func resolver(t probe.Target) netip.AddrPort {
	if t.Resolver.IsValid() {
		return t.Resolver
	}
	return at(t.Public4, 53)
}

// quiet is an address that nothing but one probe's nameless message is sent to, so that
// the record's event is that message's. Outside of a sandbox it is the peer's.
func quiet(t probe.Target, last byte) netip.AddrPort {
	if t.Setting == probe.Sandbox {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, last}), 53)
	}
	return at(t.Public4, 53)
}
