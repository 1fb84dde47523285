package tunnel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

const (
	maxSocketPath = 107             // bytes: sun_path of unix(7), less its NUL
	maxPending    = 64              // connections that wait for Accept; more are refused
	cancelTime    = 5 * time.Second // for the host's answer to a Close
)

// ForwardError says that a host refused to listen for us, or did not answer.
type ForwardError struct {
	Host string // as the user named it
	Path string // of the socket there
	Hint string // what to look at
	Err  error  // why
}

func (e *ForwardError) Error() string {
	return fmt.Sprintf("%s does not listen at %s for us: %v; %s", e.Host, printable(e.Path), e.Err, e.Hint)
}

// Unwrap returns the cause.
func (e *ForwardError) Unwrap() error { return e.Err }

// ListenUnix has the host listen at a socket there, for as long as the link
// lives, and accepts its connections here. path is absolute and has at most 107
// bytes; nothing may lie there yet (unless sshd has StreamLocalBindUnlink). Only
// the login may connect (sshd's StreamLocalBindMask). Without a link it waits as
// Dial does. A host that refuses gives a *ForwardError.
//
// Accept fails once the link is lost, with an error that errors.Is finds
// ErrLinkDown in; listening is never moved to the next link. Close ends
// listening; connections that were accepted stay. OpenSSH never removes the
// socket's file: that is the caller's task, also after a lost link.
func (c *Client) ListenUnix(ctx context.Context, path string) (net.Listener, error) {
	if err := checkSocketPath(path); err != nil {
		return nil, fmt.Errorf("listen at %s on %s: %w", printable(path), c.host.Name, err)
	}
	var f *listener
	if err := c.overLink(ctx, func(ctx context.Context, l *link) (err error) {
		f, err = l.listen(ctx, c.host.Name, path)
		return err
	}); err != nil {
		return nil, err
	}
	return f, nil
}

func checkSocketPath(path string) error {
	switch {
	case !strings.HasPrefix(path, "/"):
		return errors.New("the path is not absolute")
	case strings.Contains(path, "\x00"):
		return errors.New("the path has a NUL byte")
	case len(path) > maxSocketPath:
		return fmt.Errorf("the path has %d bytes, a socket's has at most %d", len(path), maxSocketPath)
	}
	return nil
}

// listener is one socket on the host, as a net.Listener.
type listener struct {
	link   *link
	path   string
	conns  chan net.Conn // accepted, but not taken yet
	closed chan struct{}
}

// listen asks the last hop to listen (OpenSSH's PROTOCOL §2.4).
func (l *link) listen(ctx context.Context, via, path string) (*listener, error) {
	f := &listener{link: l, path: path, conns: make(chan net.Conn, maxPending), closed: make(chan struct{})}
	refused := func(err error, hint string) error {
		f.forget()
		return &ForwardError{Host: via, Path: path, Hint: hint, Err: err}
	}
	if !l.expect(f) { // before the request: a connection may come with its answer
		return nil, fmt.Errorf("listen at %s on %s: this client listens there already", printable(path), via)
	}
	ok, err := l.ask(ctx, "streamlocal-forward@openssh.com", path)
	switch {
	case errors.Is(err, ErrLinkDown):
		f.forget()
		return nil, err
	case err != nil: // it may come to listen yet
		l.start(func() { l.last.SendRequest(cancelForward, true, pathPayload(path)) })
		return nil, refused(err, "it did not answer in time")
	case !ok: // sshd does not say why; OpenSSH 9.2 obeys AllowTcpForwarding for sockets too
		return nil, refused(errors.New("its SSH server refused"), "does sshd there allow it (AllowStreamLocalForwarding, AllowTcpForwarding, DisableForwarding; "+
			"permit-port-forwarding of this key or certificate), may the login write to the folder, and does nothing lie at the path yet "+
			"(a socket left over by a lost link: remove it, or set StreamLocalBindUnlink yes)?")
	}
	return f, nil
}

const cancelForward = "cancel-streamlocal-forward@openssh.com"

func pathPayload(path string) []byte { return ssh.Marshal(struct{ Path string }{path}) }

// ask sends a request about path and returns its answer. The error is ctx's
// cause if none came, else the link's end.
func (l *link) ask(ctx context.Context, request, path string) (bool, error) {
	type result struct {
		ok  bool
		err error
	}
	answer := make(chan result, 1)
	if !l.start(func() {
		ok, _, err := l.last.SendRequest(request, true, pathPayload(path))
		answer <- result{ok, err}
	}) {
		return false, l.cause()
	}
	select {
	case r := <-answer:
		if r.err != nil { // no refusal: the SSH connection is broken
			l.fail(r.err)
			return false, l.cause()
		}
		return r.ok, nil
	case <-l.down:
		return false, l.cause()
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
}

// expect lets the host open channels for f. It refuses a path that is in use.
func (l *link) expect(f *listener) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.forwards[f.path] != nil {
		return false
	}
	l.forwards[f.path] = f
	return true
}

// forget ends what expect began. Connections that nobody took are closed. It
// says whether f was expected until now.
func (f *listener) forget() bool {
	f.link.mu.Lock()
	was := f.link.forwards[f.path] == f
	if was {
		delete(f.link.forwards, f.path)
		close(f.closed)
	}
	f.link.mu.Unlock()
	f.drain()
	return was
}

func (f *listener) drain() {
	for {
		select {
		case c := <-f.conns:
			c.Close()
		default:
			return
		}
	}
}

// incoming decides on a channel that the server of a hop wants to open: only the
// host may, and only for a socket where it listens for us.
func (l *link) incoming(from ssh.Conn, c ssh.NewChannel) {
	var opened struct{ Path, Reserved string }
	l.mu.Lock()
	var f *listener
	if from == l.last && c.ChannelType() == "forwarded-streamlocal@openssh.com" && ssh.Unmarshal(c.ExtraData(), &opened) == nil {
		f = l.forwards[opened.Path]
	}
	l.mu.Unlock()
	if f == nil {
		c.Reject(ssh.Prohibited, "this client did not ask for this channel")
		return
	}
	f.take(c)
}

// take accepts a connection, if there is room. Only one goroutine calls it.
func (f *listener) take(c ssh.NewChannel) {
	if len(f.conns) == cap(f.conns) {
		c.Reject(ssh.ResourceShortage, "too many connections wait already")
		return
	}
	ch, reqs, err := c.Accept()
	if err != nil {
		return // the link is broken, and says so itself
	}
	conn, err := newStream(f.link, ch, reqs, target{"unix", f.path})
	if err != nil {
		return
	}
	f.conns <- conn
	if done(f.closed) {
		f.drain()
	}
}

// Accept is net.Listener's.
func (f *listener) Accept() (net.Conn, error) {
	if done(f.closed) {
		return nil, f.opError("accept", net.ErrClosed)
	}
	select {
	case c := <-f.conns:
		return c, nil
	case <-f.closed:
		return nil, f.opError("accept", net.ErrClosed)
	case <-f.link.down:
		return nil, f.opError("accept", f.link.cause())
	}
}

// Close asks the host to listen no more, and waits a moment for its answer. A
// lost link has ended listening already, which is no error.
func (f *listener) Close() error {
	if !f.forget() {
		return f.opError("close", net.ErrClosed)
	}
	ctx, cancel := context.WithTimeout(context.Background(), cancelTime)
	defer cancel()
	ok, err := f.link.ask(ctx, cancelForward, f.path)
	switch {
	case errors.Is(err, ErrLinkDown):
		return nil
	case err != nil:
		return f.opError("close", err)
	case !ok:
		return f.opError("close", errors.New("the host's SSH server refused to end listening"))
	}
	return nil
}

// Addr is the socket on the host.
func (f *listener) Addr() net.Addr { return target{"unix", f.path}.netAddr() }

func (f *listener) opError(op string, err error) error {
	return &net.OpError{Op: op, Net: "unix", Addr: f.Addr(), Err: err}
}
