package tunnel

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"
)

// unreachable makes a client whose attempts all fail, and counts them.
func unreachable(t *testing.T) (*Client, *atomic.Int64) {
	t.Helper()
	c, err := New(Host{Name: "gpu", Addr: "gpu.example", Port: 22, User: "me"}, testLogger(t))
	ok(t, err)
	var attempts atomic.Int64
	c.dialTCP = func(context.Context, string) (net.Conn, error) {
		attempts.Add(1)
		return nil, errors.New("no route to host")
	}
	return c, &attempts
}

// Attempts go on for ever, ever more rarely; a Dial has one made at once.
func TestReconnectTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, attempts := unreachable(t)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- c.Run(ctx) }()

		time.Sleep(24 * time.Hour) // of the bubble's clock
		day := attempts.Load()
		if least, most := int64(24*time.Hour/maxBackoff), int64(24*time.Hour/(maxBackoff/2))+20; day < least || day > most {
			t.Errorf("%d attempts in a day, want %d to %d", day, least, most)
		}
		time.Sleep(time.Hour / 7)
		before := attempts.Load()
		short, stop := context.WithTimeout(ctx, minBackoff+time.Millisecond)
		defer stop()
		_, err := c.Dial(short, "tcp", "127.0.0.1:1")
		if n := attempts.Load() - before; n != 1 || !errors.Is(err, ErrLinkDown) || !strings.Contains(err.Error(), "no route to host") {
			t.Errorf("a Dial caused %d attempts and said %v", n, err)
		}
		start, before := time.Now(), attempts.Load()
		if _, err = c.Dial(ctx, "tcp", "127.0.0.1:1"); !errors.Is(err, ErrLinkDown) || time.Since(start) != defaultDialTime {
			t.Errorf("a Dial without a deadline ended after %v: %v", time.Since(start), err)
		}
		if n := attempts.Load() - before; n < int64(defaultDialTime/waitedBackoff)-1 {
			t.Errorf("only %d attempts while a Dial waited", n)
		}
		cancel()
		ok(t, <-ended)
	})
}

// However often a sandbox dials, the host sees no storm.
func TestDialsDoNotHammer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, attempts := unreachable(t)
		c.dialTCP = func(context.Context, string) (net.Conn, error) {
			attempts.Add(1)
			return nil, &AuthError{Host: "gpu"}
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- c.Run(ctx) }()
		for start := time.Now(); time.Since(start) < time.Minute; time.Sleep(time.Millisecond) {
			var auth *AuthError
			if _, err := c.Dial(ctx, "tcp", "127.0.0.1:1"); !errors.As(err, &auth) {
				t.Fatalf("Dial: %v", err)
			}
		}
		if n := attempts.Load(); n < 30 || n > 61 { // retried, since the user may have fixed it
			t.Errorf("%d attempts in a minute of dialling", n)
		}
		time.Sleep(time.Hour)
		before := attempts.Load()
		time.Sleep(time.Hour)
		if n := attempts.Load() - before; n > int64(time.Hour/permanentBackoff)+1 {
			t.Errorf("%d refused logins in an hour in which nobody asked", n)
		}
		cancel()
		ok(t, <-ended)
	})
}

// The same for a host that cannot be reached, and Dials that do not wait.
func TestImpatientDialsDoNotHammer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, attempts := unreachable(t)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- c.Run(ctx) }()
		for start := time.Now(); time.Since(start) < time.Minute; {
			short, stop := context.WithTimeout(ctx, time.Millisecond)
			if _, err := c.Dial(short, "tcp", "127.0.0.1:1"); !errors.Is(err, ErrLinkDown) {
				t.Fatalf("Dial: %v", err)
			}
			stop()
		}
		if n := attempts.Load(); n < 200 || n > int64(time.Minute/minBackoff)+1 {
			t.Errorf("%d attempts in a minute of dialling", n)
		}
		cancel()
		ok(t, <-ended)
	})
}

func TestBackoff(t *testing.T) {
	for n, want := range []time.Duration{250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second, maxBackoff, maxBackoff} {
		if low, high := backoff(n, 0), backoff(n, 1); low != want/2 || high != want {
			t.Errorf("backoff %d: %v to %v, want %v to %v", n, low, high, want/2, want)
		}
	}
	if got := backoff(1<<40, 1); got != maxBackoff {
		t.Errorf("after very many failures: %v", got)
	}
}

// A server that accepts the connection and says nothing is given up.
func TestHandshakeHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, attempts := unreachable(t)
		c.dialTCP = func(context.Context, string) (net.Conn, error) {
			attempts.Add(1)
			conn, _ := bufferedPipe()
			return conn, nil
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- c.Run(ctx) }()
		if _, err := c.Dial(ctx, "unix", "/x"); !errors.Is(err, ErrLinkDown) || !strings.Contains(err.Error(), "no SSH handshake with gpu.example:22") {
			t.Errorf("Dial: %v", err)
		}
		if n := attempts.Load(); n != 2 {
			t.Errorf("%d attempts in %v, want 2", n, defaultDialTime)
		}
		cancel()
		ok(t, <-ended)
	})
}

// memoryServer is an SSH server without sockets, so that it can live on
// synctest's clock. It counts keepalives, and answers them like OpenSSH (no such
// request) until it is told to be silent.
type memoryServer struct {
	key        keyPair
	keepalives atomic.Int64
	silent     atomic.Bool
	accept     bool        // channels are accepted, and never read
	cut        atomic.Bool // what the server sends is lost
	spoil      atomic.Bool // the server's next write is changed on the way
	conn       atomic.Pointer[ssh.ServerConn]
	wg         sync.WaitGroup
}

// current is c's link.
func current(c *Client) *link {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.link
}

func (m *memoryServer) dial(context.Context, string) (net.Conn, error) {
	client, server := bufferedPipe()
	server.(*pipeEnd).cut, server.(*pipeEnd).spoil = &m.cut, &m.spoil
	m.wg.Go(func() {
		cfg := &ssh.ServerConfig{NoClientAuth: true}
		cfg.AddHostKey(m.key.signer)
		conn, chans, reqs, err := ssh.NewServerConn(server, cfg)
		if err != nil {
			return
		}
		m.conn.Store(conn)
		m.wg.Go(func() {
			for r := range reqs {
				m.keepalives.Add(1)
				if !m.silent.Load() {
					r.Reply(false, nil)
				}
			}
		})
		for c := range chans {
			if m.accept {
				if _, reqs, err := c.Accept(); err == nil {
					m.wg.Go(func() { ssh.DiscardRequests(reqs) })
				}
				continue
			}
			c.Reject(ssh.ConnectionFailed, "nothing here\x1b]52;c;!\a")
		}
		conn.Wait()
	})
	return client, nil
}

// An answered keepalive, even with a no, keeps the link for ever; an unanswered
// one ends it after one more interval, and is not asked again meanwhile.
func TestKeepAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memoryServer{key: newKey(t, "ed25519")}
		c, err := New(Host{Name: "gpu", Addr: "gpu.example", Port: 22, User: "me", KnownHosts: "gpu.example " + m.key.authorized()}, testLogger(t))
		ok(t, err)
		c.dialTCP = m.dial
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- c.Run(ctx) }()
		time.Sleep(time.Hour)
		if n, st := m.keepalives.Load(), c.State(); n != int64(time.Hour/defaultKeepAlive)-1 && n != int64(time.Hour/defaultKeepAlive) || !st.Up || st.Reconnects != 0 {
			t.Errorf("after an hour: %d keepalives, state %+v", n, st)
		}

		_, err = c.Dial(ctx, "unix", "/x")
		var target *TargetError
		if !errors.As(err, &target) || strings.ContainsAny(err.Error(), "\x1b\a") {
			t.Errorf("a server's escape sequence: %q", err)
		}

		m.silent.Store(true)
		before, start := m.keepalives.Load(), time.Now()
		l := current(c)
		<-l.down
		if n, d := m.keepalives.Load()-before, time.Since(start); n != 1 || d > 2*defaultKeepAlive {
			t.Errorf("a silent server was asked %d times, and given up after %v", n, d)
		}
		m.silent.Store(false)
		synctest.Wait()

		// A spoilt packet ends the link too, though the transport is fine.
		time.Sleep(steadyAfter)
		m.spoil.Store(true)
		start, l = time.Now(), current(c)
		_, _, err = m.conn.Load().SendRequest("hello", false, nil)
		ok(t, err)
		<-l.down
		if d := time.Since(start); d > 0 {
			t.Errorf("a spoilt packet was noticed after %v", d)
		}
		synctest.Wait()
		if st := c.State(); !st.Up || st.Reconnects != 2 || time.Since(st.Since) > 0 {
			t.Errorf("not reconnected at once: %+v", st)
		}
		cancel()
		ok(t, <-ended)
		m.wg.Wait()
	})
}

// Close returns at once, and so does what it interrupts, though the server is
// beyond reach; the same for deadlines.
func TestCloseUnblocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memoryServer{key: newKey(t, "ed25519"), accept: true}
		c, err := New(Host{Name: "gpu", Addr: "gpu.example", Port: 22, User: "me", KnownHosts: "gpu.example " + m.key.authorized()}, testLogger(t))
		ok(t, err)
		c.dialTCP = m.dial
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- c.Run(ctx) }()
		for _, interrupt := range []struct {
			do   func(net.Conn) error
			want error
		}{
			{net.Conn.Close, net.ErrClosed},
			{func(conn net.Conn) error { return conn.SetDeadline(time.Now()) }, os.ErrDeadlineExceeded},
		} {
			m.cut.Store(false)
			conn, err := c.Dial(ctx, "unix", "/model.sock")
			ok(t, err)
			m.cut.Store(true)
			start := time.Now()
			errs := make(chan error, 2)
			go func() { _, err := conn.Read(make([]byte, 1)); errs <- err }()
			go func() { _, err := conn.Write(make([]byte, 4<<20)); errs <- err }() // the window is 2 MiB
			synctest.Wait()
			ok(t, interrupt.do(conn))
			for range 2 {
				if err := <-errs; !errors.Is(err, interrupt.want) || time.Since(start) > 0 {
					t.Errorf("after %v: %v, want %v", time.Since(start), err, interrupt.want)
				}
			}
			ok(t, conn.Close())
		}
		cancel()
		ok(t, <-ended)
		m.wg.Wait()
	})
}

// half is one direction of a bufferedPipe.
type half struct {
	mu     sync.Mutex
	cond   sync.Cond
	data   []byte
	closed bool
}

// pipeEnd is a net.Conn in memory. Unlike net.Pipe's it does not make a writer
// wait for the reader: both sides of SSH begin with a write.
type pipeEnd struct {
	net.Conn // for deadlines and addresses, of a net.Pipe
	in, out  *half
	cut      *atomic.Bool // writes are lost; nil: never
	spoil    *atomic.Bool // the next write is changed; nil: never
}

func bufferedPipe() (a, b net.Conn) {
	x, y := net.Pipe()
	one, two := &half{}, &half{}
	one.cond.L, two.cond.L = &one.mu, &two.mu
	return &pipeEnd{Conn: x, in: one, out: two}, &pipeEnd{Conn: y, in: two, out: one}
}

func (p *pipeEnd) Read(b []byte) (int, error) {
	p.in.mu.Lock()
	defer p.in.mu.Unlock()
	for len(p.in.data) == 0 && !p.in.closed {
		p.in.cond.Wait()
	}
	if len(p.in.data) == 0 {
		return 0, net.ErrClosed
	}
	n := copy(b, p.in.data)
	p.in.data = p.in.data[n:]
	return n, nil
}

func (p *pipeEnd) Write(b []byte) (int, error) {
	p.out.mu.Lock()
	defer p.out.mu.Unlock()
	if p.out.closed {
		return 0, net.ErrClosed
	}
	if p.cut != nil && p.cut.Load() {
		return len(b), nil
	}
	p.out.data = append(p.out.data, b...)
	if p.spoil != nil && p.spoil.CompareAndSwap(true, false) {
		p.out.data[len(p.out.data)-1] ^= 1
	}
	p.out.cond.Broadcast()
	return len(b), nil
}

func (p *pipeEnd) Close() error {
	for _, h := range []*half{p.in, p.out} {
		h.mu.Lock()
		h.closed = true
		h.cond.Broadcast()
		h.mu.Unlock()
	}
	return p.Conn.Close()
}
