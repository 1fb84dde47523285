package wall

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// backlog bounds the connections of one sandbox that wait to be accepted, as
// SOMAXCONN did up to Linux 5.3; those beyond try again after a second (RFC 6298).
// Who floods has it full all the time, and the gateway that much to do at once.
const backlog = 128

// listeners opens the transparent sockets that take what the rules hand over
// from one interface: TCP of any destination, and UDP to port 53. Which sandbox
// sent something is thereby known by the socket it arrives on.
func listeners(device string, ipv6 bool) (tcp, udp *os.File, err error) {
	tcp, err = transparent(unix.SOCK_STREAM, tproxyPort, device, ipv6)
	if err != nil {
		return nil, nil, err
	}
	if err := unix.Listen(int(tcp.Fd()), backlog); err != nil {
		tcp.Close()
		return nil, nil, fmt.Errorf("listen on %s: %w", device, err)
	}
	udp, err = transparent(unix.SOCK_DGRAM, dnsPort, device, ipv6)
	if err != nil {
		tcp.Close()
		return nil, nil, err
	}
	return tcp, udp, nil
}

type option struct{ level, name, value int }

// transparent opens one socket, dual-stack if there is IPv6, bound to device.
func transparent(kind, port int, device string, ipv6 bool) (*os.File, error) {
	family := unix.AF_INET
	var any unix.Sockaddr = &unix.SockaddrInet4{Port: port}
	options := []option{{unix.SOL_IP, unix.IP_TRANSPARENT, 1}}
	if ipv6 {
		family, any = unix.AF_INET6, &unix.SockaddrInet6{Port: port}
		options = append(options, option{unix.SOL_IPV6, unix.IPV6_V6ONLY, 0}, option{unix.SOL_IPV6, unix.IPV6_TRANSPARENT, 1})
	}
	if kind == unix.SOCK_DGRAM {
		options = append(options, option{unix.SOL_IP, unix.IP_RECVORIGDSTADDR, 1})
		if ipv6 {
			options = append(options, option{unix.SOL_IPV6, unix.IPV6_RECVORIGDSTADDR, 1})
		}
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open a socket for %s: %w", device, err)
	}
	f := os.NewFile(uintptr(fd), device)
	err = unix.BindToDevice(fd, device)
	for _, o := range options {
		if err == nil {
			err = unix.SetsockoptInt(fd, o.level, o.name, o.value)
		}
	}
	if err == nil {
		err = unix.Bind(fd, any)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open a transparent socket on %s port %d: %w", device, port, err)
	}
	return f, nil
}
