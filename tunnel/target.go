package tunnel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"golang.org/x/crypto/ssh"
)

// target is what a stream leads to: the net.Addr that RemoteAddr returns.
type target struct{ network, addr string }

func (t target) Network() string { return t.network }
func (t target) String() string  { return t.addr }

// netAddr is t in the types that callers may look for.
func (t target) netAddr() net.Addr {
	if t.network == "unix" {
		return &net.UnixAddr{Net: "unix", Name: t.addr}
	}
	if ap, err := netip.ParseAddrPort(t.addr); err == nil {
		return net.TCPAddrFromAddrPort(ap)
	}
	return t // a name that only the other side resolves
}

// payload is the channel type and data that ask a server for t (RFC 4254 §7.2;
// OpenSSH's PROTOCOL §2.4).
func (t target) payload() (string, []byte, error) {
	if t.network == "unix" {
		return "direct-streamlocal@openssh.com", ssh.Marshal(struct {
			Path     string
			Reserved string
			Zero     uint32
		}{Path: t.addr}), nil
	}
	host, port, err := net.SplitHostPort(t.addr)
	if err != nil {
		return "", nil, err
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return "", nil, fmt.Errorf("port %q is not a number from 1 to 65535", port)
	}
	return "direct-tcpip", ssh.Marshal(struct {
		Host     string
		Port     uint32
		FromHost string
		FromPort uint32
	}{host, uint32(n), "127.0.0.1", 0}), nil
}

// dial opens a stream over the last hop. A server that does not answer before
// ctx ends is the target's fault as long as the link is alive.
func (l *link) dial(ctx context.Context, via string, t target) (net.Conn, error) {
	kind, payload, err := t.payload()
	if err != nil {
		return nil, fmt.Errorf("dial %s %q through %s: %w", t.network, t.addr, via, err)
	}
	ch, reqs, err := l.open(ctx, kind, payload)
	var refused *ssh.OpenChannelError
	switch {
	case err == nil:
		return newStream(l, ch, reqs, t)
	case errors.As(err, &refused):
		return nil, targetError(via, t.network, t.addr, refused)
	case errors.Is(err, ErrLinkDown):
		return nil, err
	default:
		return nil, &TargetError{Host: via, Network: t.network, Addr: t.addr, Message: "no answer in time",
			Hint: "is the model server's port filtered there?", Err: err}
	}
}

// open opens a channel over the last hop. The error is an *ssh.OpenChannelError
// if the server refused, ctx's cause if it did not answer, else the link's end.
func (l *link) open(ctx context.Context, kind string, payload []byte) (ssh.Channel, <-chan *ssh.Request, error) {
	type result struct {
		ch   ssh.Channel
		reqs <-chan *ssh.Request
		err  error
	}
	opened := make(chan result, 1)
	abandoned := make(chan struct{})
	conn := l.last
	if !l.start(func() {
		ch, reqs, err := conn.OpenChannel(kind, payload)
		opened <- result{ch, reqs, err}
		<-abandoned
		select {
		case r := <-opened: // nobody took it
			if r.err == nil {
				l.start(func() { ssh.DiscardRequests(r.reqs) })
				r.ch.Close()
			}
		default:
		}
	}) {
		return nil, nil, l.cause()
	}
	defer close(abandoned)
	select {
	case r := <-opened:
		var refused *ssh.OpenChannelError
		if r.err != nil && !errors.As(r.err, &refused) { // not a refusal: the SSH connection is broken
			l.fail(r.err)
			return nil, nil, l.cause()
		}
		return r.ch, r.reqs, r.err
	case <-l.down:
		return nil, nil, l.cause()
	case <-ctx.Done():
		return nil, nil, context.Cause(ctx)
	}
}
