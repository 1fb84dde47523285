package tunnel

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// hop is one SSH server on the way, ready to be connected to.
type hop struct {
	host  Host
	keys  *hostKeys
	files []identity
}

func newHop(h Host, behind bool) (hop, error) {
	keys, err := newHostKeys(h, behind)
	if err != nil {
		return hop{}, err
	}
	files, err := fileIdentities(h)
	return hop{host: h, keys: keys, files: files}, err
}

// handshake proves over raw that the hop is the right host, and logs in. raw is
// closed if that fails, or when ctx ends before.
func (h hop) handshake(ctx context.Context, raw net.Conn) (ssh.Conn, <-chan ssh.NewChannel, <-chan *ssh.Request, error) {
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	defer stop()
	deadline, _ := ctx.Deadline() // Client.connect always sets one
	auth := newAuthentication(ctx, h.host, h.files, deadline)
	defer auth.close()
	known := ssh.SupportedAlgorithms() // the ones without known weaknesses; of these, hmac-sha1 is left out too
	cfg := &ssh.ClientConfig{
		Config: ssh.Config{
			KeyExchanges: known.KeyExchanges,
			Ciphers:      known.Ciphers,
			MACs:         []string{ssh.HMACSHA256ETM, ssh.HMACSHA512ETM, ssh.HMACSHA256, ssh.HMACSHA512},
		},
		HostKeyAlgorithms: h.keys.algorithms(),
		HostKeyCallback:   h.keys.check,
		ClientVersion:     "SSH-2.0-Sallyport",
	}
	auth.install(cfg)
	conn, chans, reqs, err := ssh.NewClientConn(raw, h.host.address(), cfg)
	if err == nil && stop() {
		return conn, chans, reqs, nil
	}
	raw.Close()
	if ctx.Err() != nil {
		return nil, nil, nil, fmt.Errorf("no SSH handshake with %s: %w", h.host.address(), context.Cause(ctx))
	}
	return nil, nil, nil, h.explain(auth, err)
}

// explain finds out which step of the handshake failed.
func (h hop) explain(auth *authentication, err error) error {
	var key *HostKeyError
	if errors.As(err, &key) {
		return key
	}
	var none *ssh.AlgorithmNegotiationError
	if errors.As(err, &none) {
		if none.What == "host key" {
			return h.keys.noCommon(none)
		}
		return &reworded{fmt.Sprintf("SSH handshake with %s: its server knows no strong %s, only %s; it needs a newer OpenSSH",
			h.host.address(), none.What, printable(strings.Join(none.RequestedAlgorithms, ", "))), err}
	}
	return auth.explain(&reworded{fmt.Sprintf("SSH handshake with %s: %s", h.host.address(), printable(err.Error())), err})
}

// link is one established way to a host: an SSH connection, inside those to its
// jump hosts. It ends once, by fail.
type link struct {
	host Host
	bufs *buffers
	down chan struct{} // closed by fail, before any stream sees its end

	mu       sync.Mutex
	err      error // set before down is closed
	conns    []net.Conn
	last     ssh.Conn
	forwards map[string]*listener // by path on the host: what the host may open channels for
	wg       sync.WaitGroup
}

func newLink(h Host, bufs *buffers) *link {
	return &link{host: h, bufs: bufs, down: make(chan struct{}), forwards: map[string]*listener{}}
}

// start runs f in a goroutine that wait waits for. It refuses when l is down.
func (l *link) start(f func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return false
	}
	l.wg.Go(f)
	return true
}

// fail ends the link and all its streams; only the first cause counts. It waits for
// what was written, lastWait at most for each hop.
func (l *link) fail(err error) {
	l.mu.Lock()
	if l.err != nil {
		l.mu.Unlock()
		return
	}
	l.err = &LinkError{Host: l.host.Name, Err: err}
	conns := l.conns
	close(l.down)
	l.mu.Unlock()
	for _, c := range conns {
		c.Close()
	}
}

// lost is fail for an error of a transport.
func (l *link) lost(err error) { l.fail(fmt.Errorf("connection lost: %w", err)) }

// cause is the LinkError once l is down, nil before.
func (l *link) cause() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// wait returns when everything that the link started has ended; call it after fail.
func (l *link) wait() { l.wg.Wait() }

// add makes raw the next hop's transport, and watches over it.
func (l *link) add(raw net.Conn) (net.Conn, error) {
	c := &watched{Conn: raw, in: bufio.NewReaderSize(raw, transportBuffer), fail: l.lost}
	c.out = newGatherer(raw, c.fail)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		raw.Close()
		return nil, l.err
	}
	l.conns = append(l.conns, c)
	l.wg.Go(c.out.run)
	return c, nil
}

// serve makes conn the last hop so far. Whatever its server asks for is refused,
// but channels that a listener asked for.
func (l *link) serve(conn ssh.Conn, chans <-chan ssh.NewChannel, reqs <-chan *ssh.Request) {
	l.mu.Lock()
	l.last = conn
	l.mu.Unlock()
	l.start(func() { ssh.DiscardRequests(reqs) })
	l.start(func() {
		for c := range chans {
			l.incoming(conn, c)
		}
	})
	l.start(func() { l.fail(conn.Wait()) })
}

// keepAlive asks the server for a sign of life every interval, and fails the
// link when there is none for another. There is never more than one question:
// the library would queue a second behind the first, for ever. Any answer is
// one, also a refusal.
func (l *link) keepAlive(interval time.Duration) {
	timer := time.NewTimer(interval)
	defer timer.Stop()
	answer := make(chan error, 1)
	for {
		select {
		case <-timer.C:
		case <-l.down:
			return
		}
		if !l.start(func() {
			_, _, err := l.last.SendRequest("keepalive@openssh.com", true, nil)
			answer <- err
		}) {
			return
		}
		timer.Reset(interval)
		select {
		case err := <-answer:
			if err != nil {
				l.fail(fmt.Errorf("keepalive: %w", err))
				return
			}
			timer.Reset(interval)
		case <-timer.C:
			l.fail(fmt.Errorf("no answer to a keepalive in %v", interval))
			return
		case <-l.down:
			return
		}
	}
}

// watched is a hop's transport. It tells the link of its end before the SSH
// library does so to streams, as a mere EOF.
type watched struct {
	net.Conn
	in   *bufio.Reader
	out  *gatherer
	fail func(error)
}

// transportBuffer is what one read of a transport takes at most, in bytes. The
// library's own buffer is of 4 kB: it would ask the kernel twice for each packet.
const transportBuffer = 64 << 10

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.in.Read(p)
	if err != nil {
		w.fail(err)
	}
	return n, err
}

// Write takes p; an error that comes of it ends the link.
func (w *watched) Write(p []byte) (int, error) { return w.out.Write(p) }

// Close ends both directions, after what was taken to be written.
func (w *watched) Close() error {
	w.out.flush()
	w.out.stop(net.ErrClosed)
	return w.Conn.Close()
}
