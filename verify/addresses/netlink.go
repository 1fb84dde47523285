package addresses

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// attribute packs a netlink attribute (netlink(7)); parts that it nests are packed
// already.
func attribute(kind uint16, parts ...[]byte) []byte {
	a := make([]byte, 4)
	for _, p := range parts {
		a = append(a, p...)
	}
	binary.NativeEndian.PutUint16(a, uint16(len(a)))
	binary.NativeEndian.PutUint16(a[2:], kind)
	return append(a, make([]byte, -len(a)&3)...)
}

func number32(n int) []byte { return binary.NativeEndian.AppendUint32(nil, uint32(n)) }

// routeRequest makes one request of rtnetlink(7) and returns the kernel's error.
func routeRequest(kind, flags uint16, parts ...[]byte) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	m := make([]byte, unix.NLMSG_HDRLEN)
	for _, p := range parts {
		m = append(m, p...)
	}
	binary.NativeEndian.PutUint32(m, uint32(len(m)))
	binary.NativeEndian.PutUint16(m[4:], kind)
	binary.NativeEndian.PutUint16(m[6:], flags|unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	if err := unix.Sendto(fd, m, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	buf := make([]byte, maxAnswer)
	n, err := read(fd, buf)
	if err != nil {
		return err
	}
	if n < unix.NLMSG_HDRLEN+4 || binary.NativeEndian.Uint16(buf[4:]) != unix.NLMSG_ERROR {
		return errors.New("the kernel's answer is no acknowledgement")
	}
	if errno := int32(binary.NativeEndian.Uint32(buf[unix.NLMSG_HDRLEN:])); errno != 0 {
		return unix.Errno(-errno)
	}
	return nil
}

const create = unix.NLM_F_CREATE | unix.NLM_F_EXCL

func familyOf(addr netip.Addr) byte {
	if addr.Is6() {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

// addAddress gives an interface one more address; one that it has is fine.
func addAddress(index int, p netip.Prefix) error {
	flags := byte(0)
	if p.Addr().Is6() {
		flags = unix.IFA_F_NODAD
	}
	head := append([]byte{familyOf(p.Addr()), byte(p.Bits()), flags, unix.RT_SCOPE_UNIVERSE}, number32(index)...)
	err := routeRequest(unix.RTM_NEWADDR, create, head, attribute(unix.IFA_LOCAL, p.Addr().AsSlice()), attribute(unix.IFA_ADDRESS, p.Addr().AsSlice()))
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("add the address %s: %w", p, err)
	}
	if p.Addr().Is6() && !p.Addr().IsLinkLocalUnicast() {
		return awaitAddress(p.Addr())
	}
	return nil
}

// awaitAddress waits until what is sent to an address of IPv6 is delivered, which
// the kernel sees to a moment after it has said that the address is there.
func awaitAddress(addr netip.Addr) error {
	const often, interval = 400, 5 * time.Millisecond
	for range often {
		routes, err := os.ReadFile("/proc/net/ipv6_route")
		if err != nil {
			return fmt.Errorf("look for the address %s: %w", addr, err)
		}
		if isLocal(string(routes), addr) {
			return nil
		}
		time.Sleep(interval)
	}
	return fmt.Errorf("the address %s cannot be used", addr)
}

// isLocal reports whether the kernel's table of routes has addr as one of its own.
func isLocal(routes string, addr netip.Addr) bool {
	const local = 1 << 31 // RTF_LOCAL, linux/ipv6_route.h
	prefix := fmt.Sprintf("%x 80 ", addr.AsSlice())
	for line := range strings.Lines(routes) {
		if f := strings.Fields(line); strings.HasPrefix(line, prefix) && len(f) == 10 {
			if flags, err := strconv.ParseUint(f[8], 16, 32); err == nil && flags&local != 0 {
				return true
			}
		}
	}
	return false
}

// linkHead is the ifinfomsg of rtnetlink(7).
func linkHead(index int, flags, change uint32) []byte {
	h := make([]byte, 16)
	binary.NativeEndian.PutUint32(h[4:], uint32(index))
	binary.NativeEndian.PutUint32(h[8:], flags)
	binary.NativeEndian.PutUint32(h[12:], change)
	return h
}

func setUp(index int) error {
	if err := routeRequest(unix.RTM_NEWLINK, 0, linkHead(index, unix.IFF_UP, unix.IFF_UP)); err != nil {
		return fmt.Errorf("set interface %d up: %w", index, err)
	}
	return nil
}

// addLink makes an interface of a kind; more are its further attributes.
func addLink(name, kind string, data []byte, more ...[]byte) error {
	parts := [][]byte{linkHead(0, 0, 0), attribute(unix.IFLA_IFNAME, []byte(name+"\x00")),
		attribute(unix.IFLA_LINKINFO, attribute(unix.IFLA_INFO_KIND, []byte(kind)), attribute(unix.IFLA_INFO_DATA, data))}
	return routeRequest(unix.RTM_NEWLINK, create, append(parts, more...)...)
}

func deleteLink(name string) error {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return err
	}
	return routeRequest(unix.RTM_DELLINK, 0, linkHead(i.Index, 0, 0))
}

// vethInfoPeer is of linux/veth.h.
const vethInfoPeer = 1

func addVeth(name, peer string) error {
	return addLink(name, "veth", attribute(vethInfoPeer, linkHead(0, 0, 0), attribute(unix.IFLA_IFNAME, []byte(peer+"\x00"))))
}

// routeChange adds or deletes (kind) the route to a prefix, by a gateway unless that is zero.
func routeChange(kind uint16, to netip.Prefix, gate netip.Addr, index int) error {
	scope := byte(unix.RT_SCOPE_UNIVERSE)
	if !gate.IsValid() && to.Addr().Is4() {
		scope = unix.RT_SCOPE_LINK
	}
	head := []byte{familyOf(to.Addr()), byte(to.Bits()), 0, 0, unix.RT_TABLE_MAIN, unix.RTPROT_BOOT, scope, unix.RTN_UNICAST, 0, 0, 0, 0}
	parts := [][]byte{head, attribute(unix.RTA_OIF, number32(index))}
	if to.Bits() > 0 {
		parts = append(parts, attribute(unix.RTA_DST, to.Masked().Addr().AsSlice()))
	}
	if gate.IsValid() {
		parts = append(parts, attribute(unix.RTA_GATEWAY, gate.AsSlice()))
	}
	flags := uint16(create)
	if kind == unix.RTM_DELROUTE {
		flags = 0
	}
	return routeRequest(kind, flags, parts...)
}

// neighbourChange adds or deletes (kind) the entry that says where addr is.
func neighbourChange(kind uint16, addr netip.Addr, mac net.HardwareAddr, index int) error {
	head := make([]byte, 12)
	head[0] = familyOf(addr)
	binary.NativeEndian.PutUint32(head[4:], uint32(index))
	binary.NativeEndian.PutUint16(head[8:], unix.NUD_PERMANENT)
	flags := uint16(create)
	if kind == unix.RTM_DELNEIGH {
		flags = 0
	}
	return routeRequest(kind, flags, head, attribute(unix.NDA_DST, addr.AsSlice()), attribute(unix.NDA_LLADDR, mac))
}
