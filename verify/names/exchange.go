package names

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/sallyport/sallyport/verify"
	"github.com/sallyport/sallyport/verify/probe"
)

const (
	patience = verify.Deadline // with a server that says nothing
	resend   = time.Second     // after which a datagram may be lost
	most     = 1 << 16         // bytes of an answer
)

func dial(ctx context.Context, network string, to netip.AddrPort) (net.Conn, error) {
	dialing, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := (&net.Dialer{KeepAlive: -1}).DialContext(dialing, network, to.String())
	if err != nil {
		return nil, err
	}
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// byDatagram asks conn, again if nothing comes, until limit.
func byDatagram(conn net.Conn, query []byte, limit time.Duration) ([]byte, error) {
	end := time.Now().Add(limit)
	buf := make([]byte, most)
	for {
		next := time.Now().Add(resend)
		if next.After(end) {
			next = end
		}
		if err := conn.SetDeadline(next); err != nil {
			return nil, err
		}
		if _, err := conn.Write(query); err != nil {
			return nil, err
		}
		n, err := conn.Read(buf)
		if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) || !time.Now().Before(end) {
			return buf[:n], err
		}
	}
}

// byStream asks over a connection. What says Greeting in place of an answer is what
// was wanted too.
func byStream(conn net.Conn, query []byte) ([]byte, error) {
	if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(query))), query...)); err != nil {
		return nil, err
	}
	r := bufio.NewReader(conn)
	if first, err := r.Peek(2); err != nil || string(first) == probe.Greeting[:2] {
		said := make([]byte, len(probe.Greeting))
		n, failed := io.ReadFull(r, said)
		return said[:n], failed
	}
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	answer := make([]byte, binary.BigEndian.Uint16(size[:]))
	n, err := io.ReadFull(r, answer)
	return answer[:n], err
}

// byTLS asks over TLS, whoever the server is.
func byTLS(conn net.Conn, name string, query []byte) ([]byte, error) {
	return secured(conn, name, "dot", func(c net.Conn) ([]byte, error) { return byStream(c, query) })
}

// byHTTPS asks over HTTPS, whoever the server is.
func byHTTPS(conn net.Conn, name string, query []byte) ([]byte, error) {
	return secured(conn, name, "http/1.1", func(c net.Conn) ([]byte, error) {
		_, err := fmt.Fprintf(c, "POST /dns-query HTTP/1.1\r\nHost: %s\r\nContent-Type: application/dns-message\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
			name, len(query), query)
		if err != nil {
			return nil, err
		}
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		return io.ReadAll(io.LimitReader(resp.Body, most))
	})
}

// secured has use speak over TLS. A server that says Greeting in place of a handshake
// has been reached.
func secured(conn net.Conn, name, protocol string, use func(net.Conn) ([]byte, error)) ([]byte, error) {
	c := &first{Conn: conn}
	said, err := use(tls.Client(c, &tls.Config{ServerName: name, InsecureSkipVerify: true, NextProtos: []string{protocol}}))
	if err != nil && bytes.HasPrefix([]byte(probe.Greeting), c.said) && len(c.said) >= 5 { // a TLS record's head
		return []byte(probe.Greeting), nil
	}
	return said, err
}

// first remembers the first bytes that come.
type first struct {
	net.Conn
	said []byte
}

func (f *first) Read(p []byte) (int, error) {
	n, err := f.Conn.Read(p)
	if room := len(probe.Greeting) - len(f.said); room > 0 {
		f.said = append(f.said, p[:min(n, room)]...)
	}
	return n, err
}

// refused judges an error of a socket call; event is what a refusal on the way leaves.
func refused(err error, events ...probe.Event) probe.Finding {
	var errno syscall.Errno
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return probe.Blocked("closed without an answer", events...)
	case isTimeout(err):
		return probe.Unproven("silent until the deadline: a refusal comes at once")
	case !errors.As(err, &errno):
		return probe.Unproven("%.200q", err.Error())
	}
	switch errno {
	case syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EPIPE, syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.EACCES, syscall.ECONNABORTED:
		return probe.Blocked(errno.Error(), events...)
	}
	return probe.Stopped(err, "the kernel")
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}
