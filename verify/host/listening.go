package host

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
)

// maxPorts bounds what is told of the host, of each protocol.
const maxPorts = 64

// The states of proc_net(5) that say that a socket takes what comes.
const (
	stateListen = "0A"
	stateClose  = "07" // of UDP: bound, and connected to nobody
)

// listening returns the ports of sockets that others than the host itself may reach,
// by the tables of a protocol ("tcp" or "udp"), at most maxPorts, the lowest first.
func listening(protocol string) []uint16 {
	state := stateListen
	if protocol == "udp" {
		state = stateClose
	}
	var ports []uint16
	for _, name := range []string{protocol, protocol + "6"} {
		text, err := os.ReadFile("/proc/self/net/" + name)
		if err == nil { // without IPv6 there is one table
			ports = append(ports, parseTable(text, state)...)
		}
	}
	slices.Sort(ports)
	ports = slices.Compact(ports)
	return ports[:min(len(ports), maxPorts)]
}

// parseTable reads a table of proc_net(5). Lines that are none are left out.
func parseTable(text []byte, state string) []uint16 {
	var ports []uint16
	for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
		fields := strings.Fields(s.Text())
		if len(fields) < 4 || fields[3] != state {
			continue
		}
		if local, err := parseAddress(fields[1]); err == nil && !local.Addr().IsLoopback() {
			ports = append(ports, local.Port())
		}
	}
	return ports
}

// parseAddress reads an address as the kernel prints it: words of four bytes, each
// in the machine's order, and a port.
func parseAddress(s string) (netip.AddrPort, error) {
	addr, port, _ := strings.Cut(s, ":")
	raw, err := hex.DecodeString(addr)
	if err != nil || len(raw) != 4 && len(raw) != 16 {
		return netip.AddrPort{}, fmt.Errorf("%q is no address", s)
	}
	for i := 0; i < len(raw); i += 4 {
		binary.NativeEndian.PutUint32(raw[i:], binary.BigEndian.Uint32(raw[i:]))
	}
	n, err := strconv.ParseUint(port, 16, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%q has no port: %w", s, err)
	}
	ip, _ := netip.AddrFromSlice(raw)
	return netip.AddrPortFrom(ip.Unmap(), uint16(n)), nil
}

// interfaceAddrs returns the addresses of this machine, those of loopback first.
// Link-local ones are left out: from elsewhere they need another zone.
func interfaceAddrs() ([]netip.Addr, error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list this machine's addresses: %w", err)
	}
	var list []netip.Addr
	for _, a := range all {
		n, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		addr, ok := netip.AddrFromSlice(n.IP)
		if addr = addr.Unmap(); ok && !addr.IsLinkLocalUnicast() && !slices.Contains(list, addr) {
			list = append(list, addr)
		}
	}
	slices.SortStableFunc(list, func(a, b netip.Addr) int { return order(a) - order(b) })
	return list, nil
}

func order(a netip.Addr) int {
	if a.IsLoopback() {
		return 0
	}
	return 1
}
