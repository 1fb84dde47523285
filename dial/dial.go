// Package dial connects to a host that a rule allowed: it resolves the name,
// checks every address of the answer, and connects to one that was checked, so
// that a name cannot stand for a machine of the user's own network. It does not
// know the rules (package policy does) nor the model's connection (tunnel).
package dial

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"
)

// Bounds on one Dial.
const (
	defaultTimeout = 15 * time.Second
	stagger        = 250 * time.Millisecond // RFC 8305 §5: the next address joins in after this
	maxAddresses   = 16                     // of one answer are tried
)

// Dialer connects to checked addresses only. Resolve and Connect are required;
// a Dialer without them refuses every Dial.
type Dialer struct {
	// Resolve returns the addresses of a host name. See Resolver.
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error)
	// Own are prefixes that are refused besides those of Classify: the sandboxes'
	// pools and this machine's addresses (see MachineAddresses).
	Own []netip.Prefix
	// Connect opens a TCP connection to exactly the address given. See TCP.
	Connect func(ctx context.Context, to netip.AddrPort) (net.Conn, error)
	// Timeout bounds resolving and connecting together. Zero: 15 s.
	Timeout time.Duration
}

// RefusedError means that a host may not be reached because of where it points.
type RefusedError struct {
	Host string
	Addr netip.Addr // the first refused address of the answer
	Why  string     // its class, e.g. "a loopback address"
}

// Error names host, address and class. It is for the user: it tells a container
// what the user's network looks like.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("%q points to %s, which is %s: refused", e.Host, e.Addr, e.Why)
}

// Dial resolves host, which may be an address literal, and connects to the first
// of its allowed addresses that answers; they join in one after another. If all
// of them are refused the error is a *RefusedError.
func (d *Dialer) Dial(ctx context.Context, host string, port uint16) (net.Conn, error) {
	if d.Resolve == nil || d.Connect == nil {
		return nil, errors.New("dial: Resolve and Connect must be set")
	}
	timeout := d.Timeout
	if timeout <= 0 {
		timeout = defaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()

	addrs, err := d.lookup(ctx, host)
	if err != nil {
		return nil, err
	}
	conn, err := d.first(ctx, host, port, addrs)
	if err != nil {
		return nil, fmt.Errorf("connect to %q, port %d: %w", host, port, err)
	}
	return conn, nil
}

// lookup returns the addresses of host that may be connected to, in the
// resolver's order, each once.
func (d *Dialer) lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	answer := []netip.Addr{}
	if a, err := netip.ParseAddr(host); err == nil {
		answer = append(answer, a)
	} else if answer, err = d.Resolve(ctx, host); err != nil {
		return nil, fmt.Errorf("resolve %q: %w", host, err)
	}
	var refused *RefusedError
	var allowed []netip.Addr
	seen := make(map[netip.Addr]bool, len(answer))
	for _, a := range answer {
		if a = a.Unmap(); seen[a] {
			continue
		}
		seen[a] = true
		if why, ok := d.allows(a); ok {
			allowed = append(allowed, a)
		} else if refused == nil {
			refused = &RefusedError{Host: host, Addr: a, Why: why}
		}
	}
	switch {
	case len(allowed) > 0:
		return allowed[:min(len(allowed), maxAddresses)], nil
	case refused != nil:
		return nil, refused
	}
	return nil, fmt.Errorf("resolve %q: the answer holds no address", host)
}

// allows is the check that every address passes, before it is connected to.
func (d *Dialer) allows(a netip.Addr) (why string, ok bool) {
	for _, p := range d.Own {
		if p.Contains(a) {
			return "an address of this machine or of its sandboxes", false
		}
	}
	return Classify(a)
}

// verify looks once more at where a new connection really ends, since Connect is
// somebody else's code and an address may have become this machine's own.
func verify(host string, want netip.AddrPort, conn net.Conn) error {
	got, err := addrPort(conn.RemoteAddr())
	if err != nil {
		return err
	}
	if got != want {
		return &RefusedError{Host: host, Addr: got.Addr(), Why: fmt.Sprintf("not the checked address %s", want)}
	}
	if local, err := addrPort(conn.LocalAddr()); err == nil && local.Addr() == got.Addr() {
		return &RefusedError{Host: host, Addr: got.Addr(), Why: "an address of this machine"}
	}
	return nil
}

func addrPort(a net.Addr) (netip.AddrPort, error) {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("the connection ends at %T, not at a TCP address", a)
	}
	ap := tcp.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()), nil
}
