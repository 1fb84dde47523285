package host

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/verify/probe"
)

const (
	hostsFile   = "/etc/hosts"
	hostsNames  = "hosts-file-names"
	engineNames = "engine-names"
)

// known are names by which engines let containers find their host.
var known = []string{"host.docker.internal", "gateway.docker.internal", "host.containers.internal", "host.lima.internal", "kubernetes.default.svc"}

func nameProbes() []probe.Probe {
	return []probe.Probe{
		{Name: hostsNames, Group: probe.Host, Why: "a name given with --add-host is the host, or a machine that it reaches", Source: "docker-run(1), --add-host",
			Try: tryHostsNames, Own: ownHostsName, Alone: true},
		{Name: engineNames, Group: probe.Host, Why: "engines have names for the host, which their own name server answers", Source: "docs.docker.com, host.docker.internal",
			Try: tryEngineNames, Own: ownHostsName, Alone: true},
	}
}

// tryHostsNames tries the trap's port at every address of the hosts file that is
// neither loopback nor this container's own.
func tryHostsNames(ctx context.Context, t probe.Target) probe.Finding {
	text, err := os.ReadFile(hostsFile)
	if err != nil {
		return probe.Stopped(err, "read "+hostsFile)
	}
	list := pairs("tcp", others(addresses(text), ownAddrs()), []uint16{t.Host.TrapTCP})
	if len(list) == 0 {
		return probe.Missing("name of another machine in " + hostsFile)
	}
	return tryAll(ctx, t, hostsNames, list)
}

// addresses returns those of a hosts file.
func addresses(text []byte) []netip.Addr {
	var list []netip.Addr
	for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
		line, _, _ := strings.Cut(s.Text(), "#")
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		if addr, err := netip.ParseAddr(fields[0]); err == nil && !slices.Contains(list, addr) {
			list = append(list, addr)
		}
	}
	return list
}

// reservedPrefix stands in the hosts file that engines write, as ip6-localnet.
var reservedPrefix = netip.MustParseAddr("fe00::0")

// others leaves out loopback, multicast, and what is own.
func others(list, own []netip.Addr) []netip.Addr {
	return slices.DeleteFunc(list, func(a netip.Addr) bool {
		return a.IsLoopback() || a.IsMulticast() || a.IsUnspecified() || a == reservedPrefix || slices.Contains(own, a)
	})
}

// ownAddrs are those of this container's interfaces, lo left out; without them, none
// is own.
func ownAddrs() []netip.Addr {
	links, err := net.Interfaces()
	if err != nil {
		return nil
	}
	var list []netip.Addr
	for _, link := range links {
		if link.Flags&net.FlagLoopback != 0 {
			continue
		}
		all, err := link.Addrs()
		if err != nil {
			continue
		}
		for _, a := range all {
			if n, ok := a.(*net.IPNet); ok {
				addr, _ := netip.AddrFromSlice(n.IP)
				list = append(list, addr.Unmap())
			}
		}
	}
	return list
}

// tryEngineNames looks the names up, and tries the trap's port at what is answered.
// In an ordinary container they would be asked for beyond this machine.
func tryEngineNames(ctx context.Context, t probe.Target) probe.Finding {
	if t.Setting == probe.Ordinary || t.Setting == probe.Unconfined {
		return probe.Missing("name server of verify's own")
	}
	ctx, cancel := context.WithTimeout(ctx, perPair)
	defer cancel()
	found := make([]probe.Finding, 0, len(known))
	for _, name := range known {
		addrs, err := (&net.Resolver{PreferGo: true}).LookupNetIP(ctx, "ip", name+".")
		if err == nil {
			found = append(found, tryAll(ctx, t, engineNames, pairs("tcp", unmapped(addrs), []uint16{t.Host.TrapTCP})))
			continue
		}
		found = append(found, refusedName(name, err))
	}
	return worst(found)
}

func refusedName(name string, err error) probe.Finding {
	if dns := (*net.DNSError)(nil); errors.As(err, &dns) && dns.IsNotFound {
		return probe.Blocked("no address of "+name, probe.Event{Layer: audit.LayerDNS, Host: name})
	}
	return probe.Unproven("look up %s: %v", name, err)
}

// ownHostsName adds the names to the container's own hosts file, which the Go
// resolver reads first, with the address of a trap of its own. They stay there: the
// container is thrown away.
func ownHostsName(ctx context.Context, t *probe.Target) error {
	if err := ownTraps(ctx, t); err != nil {
		return err
	}
	f, err := os.OpenFile(hostsFile, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("add a name: %w", err)
	}
	_, err = fmt.Fprintf(f, "\n%s %s\n", t.Host.Addrs[0], strings.Join(known, " "))
	return errors.Join(err, f.Close())
}

func unmapped(list []netip.Addr) []netip.Addr {
	for i, addr := range list {
		list[i] = addr.Unmap()
	}
	return list
}
