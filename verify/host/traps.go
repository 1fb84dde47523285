package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/sallyport/sallyport/verify"
	"github.com/sallyport/sallyport/verify/probe"
	"golang.org/x/sys/unix"
)

const (
	maxPayload  = 64              // bytes of what a contact says
	maxContacts = 1000            // remembered; more are only counted
	readTime    = 2 * time.Second // for a contact to say who it is
	portTries   = 20              // to find a port that is free at every address
)

// Traps listen on the host, on TCP and UDP at each of its addresses and on an
// abstract unix socket, and leave things about that only the host should see. They
// greet whoever comes, and keep what it says. Nothing of them may be reached from a
// sandbox; the controls do reach them.
type Traps struct {
	run        string
	addrs      []netip.Addr
	tcp, udp   uint16
	closers    []func() error
	closeOnce  sync.Once
	closeErr   error
	unhook     func() bool
	waiting    sync.WaitGroup
	mu         sync.Mutex
	contacts   []*contact
	overlooked int
	open       map[net.Conn]struct{}
}

type contact struct{ where, from, said string }

// Open starts the traps of a run. They end with ctx, or by Close.
func Open(ctx context.Context, run string) (*Traps, error) {
	addrs, err := interfaceAddrs()
	if err != nil {
		return nil, err
	}
	t, err := openAt(ctx, run, addrs, 0)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(t.listenAbstract(), t.leaveShared()); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

// openAt listens at addrs alone; port zero: at one that is free.
func openAt(ctx context.Context, run string, addrs []netip.Addr, port uint16) (*Traps, error) {
	t := &Traps{run: run, open: map[net.Conn]struct{}{}}
	var err error
	for range portTries {
		if err = t.listen(addrs, port); !errors.Is(err, unix.EADDRINUSE) {
			break
		}
		err = errors.Join(err, t.shut())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen on the host: %w", err), t.shut())
	}
	t.unhook = context.AfterFunc(ctx, func() { _ = t.Close() })
	return t, nil
}

// listen takes one port for TCP and one for UDP, free at every address.
func (t *Traps) listen(addrs []netip.Addr, port uint16) error {
	t.addrs, t.tcp, t.udp = nil, port, port
	for _, addr := range addrs {
		l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(addr, t.tcp)))
		if errors.Is(err, unix.EADDRNOTAVAIL) { // as while IPv6 still looks for another of the same
			continue
		}
		if err != nil {
			return err
		}
		t.closers = append(t.closers, l.Close)
		t.tcp = l.Addr().(*net.TCPAddr).AddrPort().Port()
		u, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, t.udp)))
		if err != nil {
			return err
		}
		t.closers = append(t.closers, u.Close)
		t.udp = u.LocalAddr().(*net.UDPAddr).AddrPort().Port()
		t.addrs = append(t.addrs, addr)
		t.waiting.Go(func() { t.accept("tcp "+l.Addr().String(), l) })
		t.waiting.Go(func() { t.receive("udp "+u.LocalAddr().String(), u) })
	}
	if len(t.addrs) == 0 {
		return errors.New("this machine has no address")
	}
	return nil
}

func (t *Traps) listenAbstract() error {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: "@" + t.abstract(), Net: "unix"})
	if err != nil {
		return fmt.Errorf("listen on an abstract socket: %w", err)
	}
	t.closers = append(t.closers, l.Close)
	t.waiting.Go(func() { t.accept("unix @"+t.abstract(), l) })
	return nil
}

func (t *Traps) abstract() string { return "sallyport-verify-" + t.run }

func (t *Traps) accept(where string, l net.Listener) {
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			t.touch(where, "nobody: this trap has ended: "+err.Error())
			return
		}
		c := t.touch(where, conn.RemoteAddr().String())
		if !t.hold(conn) {
			return
		}
		t.waiting.Go(func() {
			defer t.drop(conn)
			t.greet(conn, c)
		})
	}
}

// greet lets a contact know that it is there, and notes what it says.
func (t *Traps) greet(conn net.Conn, c *contact) {
	if conn.SetDeadline(time.Now().Add(readTime)) != nil {
		return
	}
	if _, err := conn.Write([]byte(probe.Greeting)); err != nil {
		return
	}
	said := make([]byte, maxPayload)
	n, _ := conn.Read(said) // who says nothing was here as well
	t.note(c, said[:n])
}

func (t *Traps) receive(where string, u *net.UDPConn) {
	said := make([]byte, maxPayload)
	for {
		n, from, err := u.ReadFromUDPAddrPort(said)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			t.touch(where, "nobody: this trap has ended: "+err.Error())
			return
		}
		t.note(t.touch(where, from.String()), said[:n])
		_, _ = u.WriteToUDPAddrPort([]byte(probe.Greeting), from) // whether it gets there is the contact's to say
	}
}

// touch remembers a contact as soon as it is one.
func (t *Traps) touch(where, from string) *contact {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := &contact{where: where, from: from}
	if len(t.contacts) < maxContacts {
		t.contacts = append(t.contacts, c)
	} else {
		t.overlooked++
	}
	return c
}

func (t *Traps) note(c *contact, said []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c.said = string(said)
}

// hold keeps a connection to be closed with the traps; false: they are.
func (t *Traps) hold(conn net.Conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open == nil {
		_ = conn.Close()
		return false
	}
	t.open[conn] = struct{}{}
	return true
}

func (t *Traps) drop(conn net.Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.open, conn)
	_ = conn.Close()
}

// Describe tells probes what there is on the host: its addresses, the traps, and the
// ports on which others listen.
func (t *Traps) Describe(h *probe.HostTarget) {
	h.Addrs = slices.DeleteFunc(slices.Clone(t.addrs), netip.Addr.IsLoopback)
	h.TrapTCP, h.TrapUDP, h.Abstract = t.tcp, t.udp, t.abstract()
	h.TCP = withFirst(t.tcp, listening("tcp"))
	h.UDP = withFirst(t.udp, listening("udp"))
	h.PID = os.Getpid()
	if started, err := verify.Started(h.PID); err == nil {
		h.Started = started
	}
}

// withFirst puts the trap's port first, so that no bound cuts it off.
func withFirst(port uint16, others []uint16) []uint16 {
	return append([]uint16{port}, slices.DeleteFunc(others, func(p uint16) bool { return p == port })...)
}

// Touched returns a line for each contact so far: where, from whom, and what it
// said, quoted. A probe says its run, its name and its setting.
func (t *Traps) Touched() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var lines []string
	for _, c := range t.contacts {
		lines = append(lines, fmt.Sprintf("%s from %s: %q", c.where, c.from, c.said))
	}
	if t.overlooked > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", t.overlooked))
	}
	return lines
}

// Close ends the traps and takes away what they left about. It may be called again.
func (t *Traps) Close() error {
	t.closeOnce.Do(func() {
		if t.unhook != nil {
			t.unhook()
		}
		t.mu.Lock()
		held := t.open
		t.open = nil
		t.mu.Unlock()
		for conn := range held {
			_ = conn.Close()
		}
		t.closeErr = t.shut()
	})
	return t.closeErr
}

// shut closes the listeners and waits for what serves them.
func (t *Traps) shut() error {
	var err error
	for _, c := range slices.Backward(t.closers) {
		err = errors.Join(err, c())
	}
	t.closers = nil
	t.waiting.Wait()
	return err
}
