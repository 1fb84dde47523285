package tunnel

import (
	"net"
	"syscall"
)

// quickAck makes the kernel acknowledge at once what c received. sshd leaves
// Nagle's algorithm on for forwarded data: it holds each small packet back until
// the one before is acknowledged, and a kernel that waits for something to send
// along with the acknowledgement makes a stream of tokens come in 40 ms steps.
// The kernel forgets the option after a while, so it is set after each read that
// emptied the socket.
func quickAck(c net.Conn) net.Conn {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return c
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return c
	}
	return &quickAckConn{Conn: c, raw: raw, set: func(fd uintptr) {
		// A failure costs speed only.
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_QUICKACK, 1)
	}}
}

type quickAckConn struct {
	net.Conn
	raw syscall.RawConn
	set func(fd uintptr)
}

func (q *quickAckConn) Read(p []byte) (int, error) {
	n, err := q.Conn.Read(p)
	if err == nil && n < len(p) {
		_ = q.raw.Control(q.set)
	}
	return n, err
}
