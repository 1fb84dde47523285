// Package forward tries to get out through the forward proxy, and past it at what
// takes direct connections, with every spelling of a request that some proxy has
// fallen for. It looks at nothing but what comes back; what the record must hold it
// only names.
package forward

import (
	"context"
	"net/netip"
	"slices"

	"github.com/sallyport/sallyport/verify/forward/open"
	"github.com/sallyport/sallyport/verify/probe"
)

// Probes returns the probes of group probe.Proxy, and those of probe.DNS that need
// the proxy.
func Probes() []probe.Probe {
	var list []probe.Probe
	for _, e := range slices.Concat(plain(), spellings(), ports(), forms(), bigHeads(), aims(), rebinds()) {
		list = append(list, e.probe(openProxy))
	}
	for _, e := range smuggling() {
		list = append(list, e.probe(carelessProxy))
	}
	return slices.Concat(list, direct(), []probe.Probe{slow.probe()})
}

// entry is a probe whose requests go to the proxy.
type entry struct {
	name, why, source string
	group             probe.Group                    // empty: probe.Proxy
	requests          func(t probe.Target) []request // none: t lacks what is aimed at
	lacks             string                         // what that is
}

// probe makes the probe, with own as its control.
func (e entry) probe(own func(context.Context, *probe.Target) error) probe.Probe {
	p := probe.Probe{Name: e.name, Group: e.group, Why: e.why, Source: e.source, Own: own}
	if p.Group == "" {
		p.Group = probe.Proxy
	}
	p.Try = func(ctx context.Context, t probe.Target) probe.Finding {
		if !t.Proxy.IsValid() {
			return probe.Missing("forward proxy")
		}
		requests := e.requests(t)
		if len(requests) == 0 {
			return probe.Missing(e.lacks)
		}
		return sendAll(ctx, t, requests)
	}
	return p
}

// openProxy is the control of most: a proxy that obeys, whatever it is asked for.
func openProxy(ctx context.Context, t *probe.Target) (err error) {
	aimed(t)
	t.Proxy, err = open.Proxy(ctx)
	return err
}

// carelessProxy is the control of smuggled requests.
func carelessProxy(ctx context.Context, t *probe.Target) (err error) {
	aimed(t)
	t.Proxy, err = open.Careless(ctx)
	return err
}

// aimed fills in what t lacks. These addresses are only named to a proxy, which leads
// all of them to an origin of its own.
func aimed(t *probe.Target) {
	at := netip.MustParseAddrPort
	t.Public4, t.Public6 = at("203.0.113.10:1").Addr(), netip.MustParseAddr("2001:db8::10")
	t.Model, t.Other4, t.OtherModel = at("203.0.113.11:8000"), at("203.0.113.12:1").Addr(), at("203.0.113.13:8000")
	t.Host.Addrs, t.Host.TrapTCP = []netip.Addr{at("203.0.113.14:1").Addr()}, 47124
	t.Host.Listeners = []string{"127.0.0.1:47125"}
	t.Rebinds = []string{t.Name("rebind")}
}

// public4 and public6 are where an origin would be. A name is not resolved, nor an
// address connected to, so those of documentation do where t has none.
func public4(t probe.Target) netip.Addr {
	if t.Public4.Is4() {
		return t.Public4
	}
	return netip.MustParseAddr("203.0.113.10")
}

func public6(t probe.Target) netip.Addr {
	if t.Public6.Is6() {
		return t.Public6
	}
	return netip.MustParseAddr("2001:db8::10")
}

// allowed is a name that a rule allows, where the user named one; else any other.
func allowed(t probe.Target) string {
	if len(t.Rebinds) > 0 {
		return t.Rebinds[0]
	}
	return t.Name("allowed")
}
