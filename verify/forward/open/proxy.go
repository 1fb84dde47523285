package open

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/netip"
	"regexp"
)

// anyPort is one of lo's that is free.
var anyPort = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0)

// Proxy starts a proxy that obeys: whatever a request names, in whatever spelling, it
// leads to an origin, and nothing ends a request that takes its time.
func Proxy(ctx context.Context) (netip.AddrPort, error) {
	origin, err := Listen(ctx, anyPort, answerHTTP)
	if err != nil {
		return netip.AddrPort{}, err
	}
	return Listen(ctx, anyPort, func(c net.Conn) {
		r := bufio.NewReader(c)
		head := readHead(r)
		if bytes.HasPrefix(head, []byte("CONNECT ")) {
			if _, err := io.WriteString(c, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
				return
			}
			head = nil
		}
		relay(c, io.MultiReader(bytes.NewReader(head), r), origin)
	})
}

// requestLine is where a careless parser sees a request begin.
var requestLine = regexp.MustCompile(`[A-Z]+ http://\S+ HTTP/1\.1\r?\n`)

// Careless starts a proxy that decides about the first request of a connection only,
// and refuses it; what looks like a further one, be it in the first one's body, is
// passed to an origin.
func Careless(ctx context.Context) (netip.AddrPort, error) {
	origin, err := Listen(ctx, anyPort, answerHTTP)
	if err != nil {
		return netip.AddrPort{}, err
	}
	return Listen(ctx, anyPort, func(c net.Conn) {
		r := bufio.NewReader(c)
		readHead(r)
		if _, err := io.WriteString(c, "HTTP/1.1 403 Forbidden\r\nX-Sallyport-Reason: no\r\nContent-Length: 0\r\n\r\n"); err != nil {
			return
		}
		rest := make([]byte, 0, maxHead)
		for len(rest) < maxHead {
			n, err := r.Read(rest[len(rest):maxHead])
			rest = rest[:len(rest)+n]
			if at := requestLine.FindIndex(rest); at != nil {
				relay(c, bytes.NewReader(rest[at[0]:]), origin)
				return
			}
			if err != nil {
				return
			}
		}
	})
}

// relay passes what request has to origin, and the answer to c, until the answer ends.
func relay(c net.Conn, request io.Reader, origin netip.AddrPort) {
	o, err := net.Dial("tcp", origin.String())
	if err != nil {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(o, request)
	}()
	_, _ = io.Copy(c, o)
	o.Close()
	c.Close()
	<-done
}
