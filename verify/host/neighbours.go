package host

import (
	"context"
	"net/netip"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/verify"
	"github.com/sallyport/sallyport/verify/probe"
)

const (
	otherTCP   = "other-sandbox-tcp"
	otherUDP   = "other-sandbox-udp"
	otherICMP  = "other-sandbox-icmp"
	otherModel = "other-sandbox-model"
	secondNet  = "other-network"
)

// otherPorts are the model endpoint's, an SSH server's and one that nothing has.
var otherPorts = []uint16{8000, 22, 47124}

func neighbourProbes() []probe.Probe {
	const why = "one agent that reaches another passes on what it was told, or borrows its rights"
	return []probe.Probe{
		{Name: otherTCP, Group: probe.Host, Own: ownOther("198.51.100.10"), Why: why, Source: "moby/moby issue 22054",
			Try: func(ctx context.Context, t probe.Target) probe.Finding { return tryOther(ctx, t, otherTCP, "tcp") }},
		{Name: otherUDP, Group: probe.Host, Own: ownOther("198.51.100.11"), Why: why, Source: "moby/moby issue 22054",
			Try: func(ctx context.Context, t probe.Target) probe.Finding { return tryOther(ctx, t, otherUDP, "udp") }},
		{Name: otherICMP, Group: probe.Host, Own: ownOther("198.51.100.12"), Why: "echo requests carry what they are given", Source: "RFC 792", Needs: []string{"NET_RAW"}, Try: pingOther},
		{Name: otherModel, Group: probe.Host, Why: "another sandbox's model is not this one's", Source: "CWE-284", Own: ownOtherModel,
			Try: func(ctx context.Context, t probe.Target) probe.Finding {
				return tryOne(ctx, t, otherModel, t.OtherModel, "model endpoint of another sandbox")
			}},
		{Name: secondNet, Group: probe.Host, Why: "a service in another of the engine's networks trusts its own network", Source: "docker-network(1)", Own: ownSecond,
			Try: func(ctx context.Context, t probe.Target) probe.Finding {
				return tryOne(ctx, t, secondNet, t.Second, "second network")
			}},
	}
}

func tryOther(ctx context.Context, t probe.Target, name, network string) probe.Finding {
	if !t.Other4.IsValid() {
		return probe.Missing("other sandbox")
	}
	return tryAll(ctx, t, name, pairs(network, []netip.Addr{t.Other4}, otherPorts))
}

func tryOne(ctx context.Context, t probe.Target, name string, to netip.AddrPort, what string) probe.Finding {
	if !to.IsValid() {
		return probe.Missing(what)
	}
	return tryAll(ctx, t, name, []pair{{"tcp", to}})
}

func pingOther(ctx context.Context, t probe.Target) probe.Finding {
	if !t.Other4.IsValid() {
		return probe.Missing("other sandbox")
	}
	r := verify.Probe(ctx, verify.Attempt{Kind: "icmp", Target: t.Other4.String()})
	switch r.Outcome {
	case verify.Reached:
		return probe.Reached("%s", r.Detail)
	case verify.Blocked:
		return probe.Blocked(r.Detail, probe.Event{Layer: audit.LayerPacket, Proto: "icmp", Dst: t.Other4.String()})
	case verify.StoppedInside:
		return probe.Finding{Outcome: verify.StoppedInside, Detail: r.Detail, Errno: "EPERM"}
	}
	return probe.Unproven("%s", r.Detail)
}

// ownOther is the other sandbox, at an address of the documentation's (RFC 5737) that
// is one probe's alone, with the ports of otherPorts.
func ownOther(addr string) func(context.Context, *probe.Target) error {
	return func(ctx context.Context, t *probe.Target) error {
		t.Other4 = netip.MustParseAddr(addr)
		for _, port := range otherPorts {
			if err := ownListener(ctx, t, netip.AddrPortFrom(t.Other4, port)); err != nil {
				return err
			}
		}
		return nil
	}
}

func ownOtherModel(ctx context.Context, t *probe.Target) error {
	t.OtherModel = netip.MustParseAddrPort("198.51.100.3:8000")
	return ownListener(ctx, t, t.OtherModel)
}

func ownSecond(ctx context.Context, t *probe.Target) error {
	t.Second = netip.MustParseAddrPort("198.51.100.4:8000")
	return ownListener(ctx, t, t.Second)
}

// ownListener listens in the container itself, on TCP and UDP.
func ownListener(ctx context.Context, t *probe.Target, at netip.AddrPort) error {
	if err := addAddress(at.Addr()); err != nil {
		return err
	}
	_, err := openAt(ctx, t.Run, []netip.Addr{at.Addr()}, at.Port())
	return err // what listens ends with ctx
}
