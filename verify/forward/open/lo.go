package open

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Somewhere gives lo an address of 203.0.113.0/24 and one of 2001:db8::/32 that
// nobody listens at, and returns them; six is the zero Addr where the kernel has no
// IPv6. It needs NET_ADMIN.
func Somewhere(ctx context.Context) (four, six netip.Addr, err error) {
	four = netip.AddrFrom4([4]byte{203, 0, 113, byte(1 + rand.N(254))})
	if err := Address(ctx, four); err != nil {
		return netip.Addr{}, netip.Addr{}, err
	}
	b := netip.MustParseAddr("2001:db8::").As16()
	binary.BigEndian.PutUint64(b[8:], rand.Uint64())
	six = netip.AddrFrom16(b)
	if Address(ctx, six) != nil {
		six = netip.Addr{}
	}
	return four, six, nil
}

// Address gives lo an address, and sets lo up.
func Address(ctx context.Context, addr netip.Addr) error {
	lo, err := net.InterfaceByName("lo")
	if err == nil {
		err = up()
	}
	if err == nil {
		err = addAddress(lo.Index, addr)
	}
	if err == nil {
		err = again(ctx, func() error { return delivered(addr) })
	}
	if err != nil {
		return fmt.Errorf("give lo the address %s: %w", addr, err)
	}
	return nil
}

// delivered says whether addr gets what it sends itself: the kernel puts an IPv6 address
// to use a moment after it is there.
func delivered(addr netip.Addr) error {
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, 0)))
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(bindPatience / 20)); err != nil {
		return err
	}
	if _, err := c.WriteTo([]byte{0}, c.LocalAddr()); err != nil {
		return err
	}
	_, err = c.Read(make([]byte, 1))
	return err
}

// up sets lo up, if it is not.
func up() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	r, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, r); err != nil {
		return os.NewSyscallError("SIOCGIFFLAGS", err)
	}
	if r.Uint16()&unix.IFF_UP != 0 {
		return nil
	}
	r.SetUint16(r.Uint16() | unix.IFF_UP | unix.IFF_RUNNING)
	return os.NewSyscallError("SIOCSIFFLAGS", unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, r))
}

// addAddress adds one address, as rtnetlink(7) has it; one that is there is fine.
func addAddress(link int, addr netip.Addr) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	if err := unix.Sendto(fd, newAddress(link, addr), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return os.NewSyscallError("RTM_NEWADDR", err)
	}
	answer := make([]byte, 4096)
	n, _, err := unix.Recvfrom(fd, answer, 0)
	switch {
	case err != nil:
		return os.NewSyscallError("RTM_NEWADDR", err)
	case n < unix.SizeofNlMsghdr+4:
		return errors.New("RTM_NEWADDR: the kernel's answer is cut short")
	}
	errno := syscall.Errno(-int32(binary.NativeEndian.Uint32(answer[unix.SizeofNlMsghdr:])))
	if errno == 0 || errno == unix.EEXIST {
		return nil
	}
	return os.NewSyscallError("RTM_NEWADDR", errno)
}

// newAddress is the message: struct nlmsghdr, struct ifaddrmsg, two attributes.
func newAddress(link int, addr netip.Addr) []byte {
	family, ip := byte(unix.AF_INET6), addr.AsSlice()
	if addr.Is4() {
		family = unix.AF_INET
	}
	n := binary.NativeEndian
	m := n.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+unix.SizeofIfAddrmsg+2*(unix.SizeofRtAttr+len(ip))))
	m = n.AppendUint16(m, unix.RTM_NEWADDR)
	m = n.AppendUint16(m, unix.NLM_F_REQUEST|unix.NLM_F_ACK|unix.NLM_F_CREATE)
	m = append(m, make([]byte, 8)...) // sequence number, port
	m = append(m, family, byte(addr.BitLen()), unix.IFA_F_NODAD, unix.RT_SCOPE_UNIVERSE)
	m = n.AppendUint32(m, uint32(link))
	for _, attribute := range []uint16{unix.IFA_LOCAL, unix.IFA_ADDRESS} {
		m = n.AppendUint16(n.AppendUint16(m, uint16(unix.SizeofRtAttr+len(ip))), attribute)
		m = append(m, ip...)
	}
	return m
}
