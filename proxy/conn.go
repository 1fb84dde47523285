package proxy

import (
	"errors"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sallyport/sallyport/audit"
)

// clientConn is an accepted connection whose requests net/http reads. It keeps
// the raw head of the request being read, because net/http neither shows it nor
// says when it answers a request by itself (400, 417, 431, 501) or drops it.
type clientConn struct {
	net.Conn
	owner *listener
	quick *quick // nil: there is none
	once  sync.Once
	name  sync.Once // of what follows
	src   string
	dst   string

	mu       sync.Mutex
	head     []byte // bytes read and not yet part of a request that a handler got
	skip     int64  // bytes of a request's body that are still to come
	deaf     bool   // what comes is not HTTP heads any more
	pending  bool   // net/http has read from a request that no handler got
	idle     bool   // a response has ended and no handler got the next request
	hijacked bool
}

// Process tells who makes the attempt, where the connection below knows; nil: it
// does not.
func (c *clientConn) Process() *audit.Process {
	if k, ok := c.Conn.(knowing); ok {
		return k.Process()
	}
	return nil
}

func (c *clientConn) Read(p []byte) (int, error) {
	n, err := c.read(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.deaf {
		return n, err
	}
	body := min(int64(n), c.skip)
	c.skip -= body
	if room := maxHead + 1 - len(c.head); room > 0 {
		got := p[body:n]
		c.head = append(c.head, got[:min(room, len(got))]...)
	}
	return n, err
}

// ends are the addresses of the connection, as events have them.
func (c *clientConn) ends() (src, dst string) {
	c.name.Do(func() { c.src, c.dst = c.RemoteAddr().String(), c.LocalAddr().String() })
	return c.src, c.dst
}

func (c *clientConn) read(p []byte) (int, error) {
	if c.quick != nil && !c.quick.done {
		return c.quick.read(c, p)
	}
	return c.Conn.Read(p)
}

// Write records an answer that is net/http's own before it leaves.
func (c *clientConn) Write(p []byte) (int, error) {
	if c.takePending() {
		// It waits for the rest of a request that it refuses, without an end.
		_ = c.SetReadDeadline(time.Now().Add(orDefault(c.owner.headWait, headTimeout)))
		if !c.owner.rec.record(c.unserved(ownAnswer(p))) {
			return 0, errAudit
		}
	}
	return c.Conn.Write(p)
}

// begin tells that a handler got the request at the start of head and returns
// its raw head; nil where that is not known. body is the length of the request's
// body, -1 where it is not known: the connection must then be closed after it.
func (c *clientConn) begin(body int64) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pending, c.idle = false, false
	end := headEnd(c.head)
	if end < 0 || c.deaf {
		return nil
	}
	head := c.head[:end:end]
	if body < 0 {
		c.deaf, c.head = true, nil
		return head
	}
	rest := c.head[end:]
	here := min(body, int64(len(rest)))
	c.skip = body - here
	c.head = rest[here:]
	return head
}

// state follows net/http's view of the connection.
func (c *clientConn) state(s http.ConnState) {
	switch s {
	case http.StateActive:
		c.mu.Lock()
		c.pending = true
		c.mu.Unlock()
	case http.StateIdle: // net/http does not tell that a further request is active before it is read whole
		c.mu.Lock()
		c.idle = true
		c.mu.Unlock()
	case http.StateHijacked:
		c.mu.Lock()
		c.hijacked, c.deaf, c.head = true, true, nil
		c.mu.Unlock()
	case http.StateClosed:
		c.mu.Lock()
		lost := (c.pending || len(c.head) > 0) && !c.deaf
		c.mu.Unlock()
		if lost {
			c.owner.rec.record(c.unserved(0, "the request was not completed, or came after the connection was to close"))
		}
		c.owner.wg.Done()
	}
}

func (c *clientConn) takePending() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	own := c.pending || c.idle
	if own {
		c.pending, c.idle, c.deaf = false, false, true
	}
	return own
}

// Close may be called more than once.
func (c *clientConn) Close() error {
	err := net.ErrClosed
	c.once.Do(func() {
		err = c.Conn.Close()
		c.owner.forget(c)
		c.mu.Lock()
		hijacked := c.hijacked
		c.mu.Unlock()
		if hijacked {
			c.owner.wg.Done()
		}
	})
	return err
}

// NetConn is the connection below. It is used by itself once the connection has
// been taken over.
func (c *clientConn) NetConn() net.Conn { return c.Conn }

// CloseWrite and CloseRead keep a tunnel's half-close. A connection that cannot
// do it is closed whole, as goproxy would.
func (c *clientConn) CloseWrite() error { return closeWrite(c.Conn, c) }

// CloseRead see CloseWrite.
func (c *clientConn) CloseRead() error { return closeRead(c.Conn) }

// SetLinger see net.TCPConn.
func (c *clientConn) SetLinger(sec int) error { return setLinger(c.Conn, sec) }

func closeWrite(conn net.Conn, whole net.Conn) error {
	if h, ok := conn.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return whole.Close()
}

func closeRead(conn net.Conn) error {
	if h, ok := conn.(interface{ CloseRead() error }); ok {
		return h.CloseRead()
	}
	return nil
}

func setLinger(conn net.Conn, sec int) error {
	if h, ok := conn.(interface{ SetLinger(int) error }); ok {
		return h.SetLinger(sec)
	}
	return errors.ErrUnsupported
}

// reset ends conn with a RST, so that the peer knows at once. What cannot be
// reset (a test's pipe) is closed.
func reset(conn net.Conn) {
	_ = setLinger(conn, 0)
	_ = conn.Close()
}

// ownAnswer reads the status out of an answer that net/http made.
func ownAnswer(p []byte) (status int, reason string) {
	line, _, _ := strings.Cut(string(p[:min(len(p), 64)]), "\r\n")
	_, rest, _ := strings.Cut(line, " ")
	code, _, _ := strings.Cut(rest, " ")
	status, err := strconv.Atoi(code)
	if err != nil {
		status = http.StatusBadRequest
	}
	if status == http.StatusRequestHeaderFieldsTooLarge {
		return status, "the request's headers are longer than 64 KiB"
	}
	return status, "malformed HTTP request: " + http.StatusText(status)
}
