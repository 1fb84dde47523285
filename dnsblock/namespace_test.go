package dnsblock

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// inNamespace runs f with its thread in a network namespace of its own, in which
// lo is up and has 203.0.113.0/24 and fd00::/16 besides its own addresses.
func inNamespace(t *testing.T, f func() error) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, for a network namespace of its own")
	}
	failed := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlock: the thread ends with its goroutine
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = raiseLoopback()
		}
		if err == nil {
			err = f()
		}
		failed <- err
	}()
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
}

func raiseLoopback() error {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		return err
	}
	for _, net := range []string{"203.0.113.0/24", "fd00::/16"} {
		if err := addLocalRoute(netip.MustParsePrefix(net)); err != nil {
			return err
		}
	}
	return nil
}

// addLocalRoute makes every address of a net one of this host, for packets.
func addLocalRoute(to netip.Prefix) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	family, addr := byte(unix.AF_INET6), to.Addr().AsSlice()
	if to.Addr().Is4() {
		family = unix.AF_INET
	}
	n := binary.NativeEndian
	m := n.AppendUint32(nil, uint32(16+12+4+len(addr)+8)) // struct nlmsghdr
	m = n.AppendUint16(m, unix.RTM_NEWROUTE)
	m = n.AppendUint16(m, unix.NLM_F_REQUEST|unix.NLM_F_ACK|unix.NLM_F_CREATE)
	m = append(m, make([]byte, 8)...)
	m = append(m, family, byte(to.Bits()), 0, 0, unix.RT_TABLE_LOCAL, unix.RTPROT_BOOT, unix.RT_SCOPE_HOST, unix.RTN_LOCAL, 0, 0, 0, 0)
	m = n.AppendUint16(n.AppendUint16(m, uint16(4+len(addr))), unix.RTA_DST)
	m = append(m, addr...)
	m = n.AppendUint16(n.AppendUint16(m, 8), unix.RTA_OIF)
	m = n.AppendUint32(m, 1) // lo
	if err := unix.Sendto(fd, m, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	answer := make([]byte, 4096)
	if _, _, err := unix.Recvfrom(fd, answer, 0); err != nil {
		return err
	}
	if errno := int32(n.Uint32(answer[16:])); errno != 0 {
		return os.NewSyscallError("RTM_NEWROUTE", syscall.Errno(-errno))
	}
	return nil
}

// wallSocket is set up as the wall does it.
func wallSocket(network, address string) (*net.UDPConn, error) {
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var failed error
		err := raw.Control(func(fd uintptr) {
			set := func(level, option int) {
				if failed == nil {
					failed = os.NewSyscallError("setsockopt", unix.SetsockoptInt(int(fd), level, option, 1))
				}
			}
			set(unix.SOL_IP, unix.IP_TRANSPARENT)
			set(unix.SOL_IP, unix.IP_RECVORIGDSTADDR)
			if network != "udp4" {
				set(unix.SOL_IPV6, unix.IPV6_TRANSPARENT)
				set(unix.SOL_IPV6, unix.IPV6_RECVORIGDSTADDR)
			}
		})
		if err != nil {
			return err
		}
		return failed
	}}
	c, err := config.ListenPacket(context.Background(), network, address)
	if err != nil {
		return nil, err
	}
	return c.(*net.UDPConn), nil
}

// readNow reads what a socket has, and does not wait.
func readNow(fd uintptr) (int, error) {
	n, _, err := unix.Recvfrom(int(fd), make([]byte, 512), unix.MSG_DONTWAIT)
	return n, err
}
