package main

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/verify"
)

// checkDemo fails unless each attempt of the demo's script is in the record and
// none has reached the host.
func (r *agentRun) checkDemo(events []audit.Event) error {
	if n := r.target.reached.Load(); n > 0 {
		return &exitError{exitFailed, fmt.Errorf("LEAK: %d connections from the sandbox reached the host's listener", n)}
	}
	var missing []string
	recorded, inside := 0, 0
	for _, a := range verify.DemoAttempts(r.target.Address()) {
		switch {
		case isRecorded(a, events):
			recorded++
		case staysInside(a):
			inside++
		default:
			missing = append(missing, "  "+strings.Join(a.Args(), " "))
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("the demo did not finish, or attempts are not in the record:\n%s", strings.Join(missing, "\n"))
	}
	if r.options.summaryFormat() == summaryText {
		fmt.Fprintf(r.options.stderr, "demo: %d escape attempts: %d blocked and recorded, %d stopped inside the container, 0 reached the host\n", recorded+inside, recorded, inside)
	}
	return nil
}

// staysInside reports whether an attempt may end before a packet exists: where the
// kernel refuses the socket, or at the container's own loopback.
func staysInside(a verify.Attempt) bool {
	to, err := netip.ParseAddrPort(a.Target)
	return a.Kind == "raw" || a.Kind == "icmp" || a.Kind == "icmpv6" || (a.Kind == "tcp" && err == nil && to.Addr().IsLoopback())
}

// isRecorded reports whether a refusal of this attempt is among events.
func isRecorded(a verify.Attempt, events []audit.Event) bool {
	for _, e := range events {
		if e.Verdict == policy.Deny.String() && matches(a, e) {
			return true
		}
	}
	return false
}

func matches(a verify.Attempt, e audit.Event) bool {
	switch a.Kind {
	case "dns":
		server := a.Via == "" || sameAddress(a.Via, e.Dst)
		return e.Layer == audit.LayerDNS && strings.TrimSuffix(e.Host, ".") == a.Target && server && (e.Proto == "tcp") == a.TCP
	case "connect":
		host, port, err := net.SplitHostPort(a.Target)
		return err == nil && e.Layer == audit.LayerProxy && e.Method == "CONNECT" && e.Host == host && strconv.Itoa(int(e.Port)) == port
	case "http":
		u, err := url.Parse(a.Target)
		return err == nil && e.Layer == audit.LayerIntercept && e.Host == u.Host && e.Path == u.Path
	case "tcp":
		return e.Layer == audit.LayerIntercept && sameAddress(a.Target, e.Dst)
	case "udp":
		return e.Layer == audit.LayerPacket && e.Proto == "udp" && sameAddress(a.Target, e.Dst)
	case "icmp", "icmpv6":
		return e.Layer == audit.LayerPacket && e.Proto == a.Kind && e.Dst == a.Target
	}
	return false
}

func sameAddress(a, b string) bool {
	x, errX := netip.ParseAddrPort(a)
	y, errY := netip.ParseAddrPort(b)
	return errX == nil && errY == nil && x == y
}
