// Package open is what a wall is not: a proxy that obeys everybody, a resolver that
// answers everything, and an origin behind both, at addresses of lo. Probes are held
// against it to show that they would see success. It connects to nothing but itself;
// start it only where no route leads out.
package open

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/sallyport/sallyport/verify/probe"
)

// bindPatience is how long an address may still be taken by what ends just now.
const bindPatience = time.Second

// Listen serves each connection to addr with handle until ctx ends, and returns where
// it listens: a port of 0 becomes one that is free.
func Listen(ctx context.Context, addr netip.AddrPort, handle func(net.Conn)) (netip.AddrPort, error) {
	var l net.Listener
	err := up()
	if err == nil {
		err = again(ctx, func() (err error) {
			l, err = net.Listen("tcp", addr.String())
			return err
		})
	}
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("listen at %s: %w", addr, err)
	}
	context.AfterFunc(ctx, func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				defer context.AfterFunc(ctx, func() { c.Close() })()
				handle(c)
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).AddrPort(), nil
}

// again tries try until it works or bindPatience is over, and returns its last error.
func again(ctx context.Context, try func() error) error {
	end := time.Now().Add(bindPatience)
	for {
		err := try()
		if err == nil || time.Now().After(end) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(bindPatience / 20):
		}
	}
}

// Greet is an origin that says probe.Greeting at once, whatever it is asked.
func Greet(c net.Conn) {
	if _, err := io.WriteString(c, probe.Greeting); err == nil {
		_, _ = io.Copy(io.Discard, c) // until the client has done
	}
}

// settings is the frame with which an HTTP/2 server begins (RFC 9113 §6.5).
const settings = "\x00\x00\x00\x04\x00\x00\x00\x00\x00"

// answerHTTP is an origin that answers one request of any kind, with Greeting in its body.
func answerHTTP(c net.Conn) {
	head := readHead(bufio.NewReader(c))
	method, _, _ := strings.Cut(string(head), " ")
	switch {
	case method == "PRI":
		_, _ = io.WriteString(c, settings)
	case bytes.Contains(bytes.ToLower(head), []byte("\nupgrade:")):
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\r\n"+probe.Greeting)
	default:
		_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(probe.Greeting), probe.Greeting)
	}
}

// maxHead bounds what is taken for one request's head, in bytes.
const maxHead = 1 << 20

// readHead reads up to the end of what some parser would take for a request's head: an
// empty line however it ends, or the only line of HTTP/0.9.
func readHead(r *bufio.Reader) []byte {
	var head []byte
	for len(head) < maxHead {
		line, err := r.ReadSlice('\n')
		head = append(head, line...)
		switch {
		case err != nil && err != bufio.ErrBufferFull:
			return head
		case len(bytes.TrimRight(line, "\r\n")) == 0:
			return head
		case len(head) == len(line) && !bytes.Contains(line, []byte(" HTTP/")):
			return head
		}
	}
	return head
}
