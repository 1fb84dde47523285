package sandbox

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/wall/wire"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patient = 10 * time.Second

// world is a Hub that runs, and what it recorded.
type world struct {
	t      *testing.T
	hub    *Hub
	socket string
	stop   func()
	served chan Plugged // each call of Serve

	mu     sync.Mutex
	record record
}

// newWorld makes one; change may be nil.
func newWorld(t *testing.T, change func(*Hub)) *world {
	t.Helper()
	dir := t.TempDir()
	w := &world{t: t, socket: filepath.Join(dir, "s"), served: make(chan Plugged, 100)}
	w.hub = &Hub{
		Pool4: pool4, Pool6: pool6, StateFile: filepath.Join(dir, "registrations.json"), WallToken: "the-wall's-token",
		Append: w.append, AppendAll: w.appendAll, ClaimTimeout: time.Hour, Log: newLog(t),
		Serve: func(ctx context.Context, p Plugged) error { w.served <- p; <-ctx.Done(); return nil },
	}
	if change != nil {
		change(w.hub)
	}
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: w.socket, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.hub.Open(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.hub.run(ctx, l) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(w.stop)
	return w
}

func newLog(t *testing.T) *slog.Logger { return slog.New(slog.NewTextHandler(t.Output(), nil)) }

func neverServe(context.Context, Plugged) error { return errors.New("nobody is to be served") }

func (w *world) append(e audit.Event) (audit.Event, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.record.append(e)
}

func (w *world) appendAll(es []audit.Event) ([]audit.Event, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.record.appendAll(es)
}

func (w *world) events() []audit.Event {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]audit.Event(nil), w.record.events...)
}

// peer is a wall or a holder of the test's own.
type peer struct {
	*wire.Conn
	t *testing.T
}

func (w *world) dial(hello wire.Hello) peer {
	w.t.Helper()
	c, err := wire.Dial(w.socket)
	if err != nil {
		w.t.Fatal(err)
	}
	timer := time.AfterFunc(patient, func() { c.Close() }) // for what never comes
	w.t.Cleanup(func() { timer.Stop(); c.Close() })
	p := peer{c, w.t}
	p.send(wire.Message{Hello: &hello})
	return p
}

func (w *world) wall() peer {
	w.t.Helper()
	return w.dial(wire.Hello{Role: wire.RoleWall, Token: "the-wall's-token", IPv6: true})
}

// holder comes for sandbox n with something in place of its namespace.
func (w *world) holder(n int) peer {
	w.t.Helper()
	p := w.dial(wire.Hello{Role: wire.RoleHold, Token: registration(n).Token})
	p.netns()
	return p
}

func (w *world) register(n int) Addresses {
	w.t.Helper()
	a, err := w.hub.Register(registration(n))
	if err != nil {
		w.t.Fatal(err)
	}
	return a
}

func (p peer) send(m wire.Message, files ...*os.File) {
	p.t.Helper()
	if err := p.Send(m, files...); err != nil {
		p.t.Fatal(err)
	}
}

// netns sends something in place of a namespace, and what comes with it.
func (p peer) netns(with ...*os.File) {
	p.t.Helper()
	f, err := os.Open(os.DevNull)
	if err != nil {
		p.t.Fatal(err)
	}
	defer f.Close()
	p.send(wire.Message{Netns: &wire.Netns{}}, append([]*os.File{f}, with...)...)
}

func (p peer) receive() wire.Message {
	p.t.Helper()
	for {
		m, files, err := p.Receive()
		if err != nil {
			p.t.Fatal(err)
		}
		wire.CloseAll(files)
		if m.Settled == nil { // which comes when it will
			return m
		}
	}
}

func (p peer) wantRefused(reason string) {
	p.t.Helper()
	if m := p.receive(); m.Refused == nil || !strings.Contains(m.Refused.Reason, reason) {
		p.t.Fatalf("got %+v, wanted a refusal: %s", m, reason)
	}
	p.Close()
}

func (p peer) wantEnd() {
	p.t.Helper()
	for {
		_, files, err := p.Receive()
		wire.CloseAll(files)
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
				p.t.Fatal(err)
			}
			return
		}
	}
}

// wantPlug answers the next Plug with loopback sockets.
func (p peer) wantPlug(n int) (addr string) {
	p.t.Helper()
	m := p.receive()
	if m.Plug == nil || m.Plug.Sandbox != id(n) {
		p.t.Fatalf("got %+v, wanted a plug of %s", m, id(n))
	}
	return p.plugged(n)
}

func (p peer) plugged(n int) (addr string) {
	p.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		p.t.Fatal(err)
	}
	defer l.Close()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		p.t.Fatal(err)
	}
	defer c.Close()
	tcp, err1 := l.(*net.TCPListener).File()
	udp, err2 := c.(*net.UDPConn).File()
	if err1 != nil || err2 != nil {
		p.t.Fatal(err1, err2)
	}
	defer tcp.Close()
	defer udp.Close()
	p.send(wire.Message{Plugged: &wire.Plugged{Sandbox: id(n)}}, tcp, udp)
	return l.Addr().String()
}

// wantAddress answers the next Address.
func (p peer) wantAddress(a Addresses) {
	p.t.Helper()
	m := p.receive()
	want := wire.Address{Addr4: prefix(a.Sandbox4), Addr6: prefix(a.Sandbox6), Gate4: a.Gate4, Gate6: a.Gate6}
	if m.Address == nil || *m.Address != want {
		p.t.Fatalf("got %+v, wanted %+v", m.Address, want)
	}
	p.send(wire.Message{Ready: &wire.Ready{}})
}

func (p peer) wantReplug() {
	p.t.Helper()
	if m := p.receive(); m.Replug == nil {
		p.t.Fatalf("got %+v, wanted Replug", m)
	}
}

// follow returns the states of a sandbox, from now on.
func (w *world) follow(n int) <-chan State {
	w.t.Helper()
	states, first := make(chan State, 100), make(chan struct{})
	ctx, cancel := context.WithCancel(w.t.Context())
	var watching sync.WaitGroup
	watching.Go(func() {
		begun := sync.OnceFunc(func() { close(first) })
		w.hub.Watch(ctx, id(n), func(s State) error { states <- s; begun(); return nil })
	})
	w.t.Cleanup(func() { cancel(); watching.Wait() })
	<-first
	return states
}

func (w *world) await(n int, phase Phase) State {
	w.t.Helper()
	return awaitPhase(w.t, w.follow(n), phase)
}

func awaitPhase(t *testing.T, states <-chan State, phase Phase) (last State) {
	t.Helper()
	deadline := time.After(patient)
	for {
		select {
		case last = <-states:
			if last.Phase == phase {
				return last
			}
		case <-deadline:
			t.Fatalf("it is %s (%s), not %s", last.Phase, last.Why, phase)
		}
	}
}

// ready brings sandbox 1 up.
func (w *world) ready() (wall, holder peer, addr string) {
	w.t.Helper()
	a := w.register(1)
	wall, holder = w.wall(), w.holder(1)
	addr = wall.wantPlug(1)
	holder.wantAddress(a)
	w.await(1, Ready)
	return wall, holder, addr
}

func (w *world) wantEvent(n int, match func(audit.Event) bool) {
	w.t.Helper()
	got := 0
	for _, e := range w.events() {
		if match(e) {
			got++
		}
	}
	if got != n {
		w.t.Errorf("%d events, not %d: %+v", got, n, w.events())
	}
}

func TestLifeOfASandbox(t *testing.T) {
	w := newWorld(t, nil)
	a := w.register(1)
	states := w.follow(1)
	holder := w.holder(1)
	wall := w.wall()
	addr := wall.wantPlug(1)
	holder.wantAddress(a)
	if s := awaitPhase(t, states, Ready); !s.IPv6 || s.Addresses != a {
		t.Errorf("%+v", s)
	}
	p := <-w.served
	open := dial(t, addr)
	if _, err := p.Intercept.Accept(); err != nil {
		t.Fatal(err)
	}
	if err := w.hub.SetAgent(id(1), "claude"); err != nil || p.Subject().Agent != "claude" || p.Subject().Model != "m" {
		t.Errorf("%v, %+v", err, p.Subject())
	}
	if up, ipv6 := w.hub.WallUp(); !up || !ipv6 {
		t.Error("the wall is not up")
	}
	w.hub.Unregister(id(1))
	if _, err := open.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("its connection: %v", err)
	}
	holder.wantRefused("the sandbox has ended")
	if m := wall.receive(); m.Unplug == nil || m.Unplug.Sandbox != id(1) {
		t.Errorf("the wall got %+v", m)
	}
	if s := awaitPhase(t, states, Ended); s.Why != "the launcher ended it" {
		t.Errorf("%+v", s)
	}
	if len(w.hub.List()) != 0 {
		t.Errorf("%+v", w.hub.List())
	}
	w.wantEvent(0, func(audit.Event) bool { return true })
}

func TestHolderEnds(t *testing.T) {
	w := newWorld(t, nil)
	wall, holder, addr := w.ready()
	states := w.follow(1)
	holder.Close()
	if s := awaitPhase(t, states, Ended); s.Why != "its holder ended" {
		t.Errorf("%+v", s)
	}
	if m := wall.receive(); m.Unplug == nil {
		t.Errorf("the wall got %+v", m)
	}
	if _, err := net.Dial("tcp", addr); err == nil {
		t.Error("its listener is open")
	}
	if data, _ := os.ReadFile(w.hub.StateFile); bytes.Contains(data, []byte(id(1))) {
		t.Errorf("its registration is kept: %s", data)
	}
}

// Another sandbox gets the addresses of one that ended only once that is closed,
// and nothing of it.
func TestAddressesAreFreeOnlyAfterTheEnd(t *testing.T) {
	leave := make(chan struct{})
	w := newWorld(t, func(h *Hub) {
		h.Pool4 = prefix(pool4.Addr())
		h.Serve = func(ctx context.Context, p Plugged) error { <-ctx.Done(); <-leave; return nil }
	})
	_, holder, _ := w.ready()
	states := w.follow(1)
	holder.Close()
	for len(w.hub.List()) > 0 { // until the end has begun
		runtime.Gosched()
	}
	if _, err := w.hub.Register(registration(2)); err == nil {
		t.Error("the addresses of a sandbox that is still closing were given to another")
	}
	close(leave)
	awaitPhase(t, states, Ended)
	w.register(2)
}

func TestRefusals(t *testing.T) {
	w := newWorld(t, nil)
	_, holder, _ := w.ready()
	for reason, hello := range map[string]wire.Hello{
		"a holder's token is not known":           {Role: wire.RoleHold, Token: registration(2).Token},
		"a holder's token was used a second time": {Role: wire.RoleHold, Token: registration(1).Token},
		"the wall's token is not known":           {Role: wire.RoleWall, Token: registration(1).Token},
		"its role is unknown":                     {Role: "root", Token: "the-wall's-token"},
	} {
		p := w.dial(hello)
		p.netns() // what it sends before it reads must not hide the reason
		p.wantRefused(reason)
		w.wantEvent(1, func(e audit.Event) bool {
			return e.Layer == audit.LayerControl && e.Rule == "wall-socket" && e.Reason == reason && e.Verdict == "denied"
		})
	}
	holder.send(wire.Message{Ready: &wire.Ready{}})
	if s := w.hub.List()[0]; s.Phase != Ready {
		t.Errorf("%+v", s)
	}
}

func TestEmptyTokenIsNoToken(t *testing.T) {
	w := newWorld(t, nil)
	w.dial(wire.Hello{Role: wire.RoleHold}).wantRefused("not known")
	w.dial(wire.Hello{Role: wire.RoleWall}).wantRefused("not known")
}

// A peer that sends nonsense is ended, and with a holder its sandbox.
func TestNonsense(t *testing.T) {
	for name, m := range map[string]wire.Message{
		"another's message":   {Plug: &wire.Plug{}},
		"a second hello":      {Hello: &wire.Hello{}},
		"netns without files": {Netns: &wire.Netns{}},
		"a foreign's message": {Address: &wire.Address{}},
	} {
		w := newWorld(t, nil)
		wall, holder, _ := w.ready()
		states := w.follow(1)
		holder.send(m)
		holder.wantEnd()
		if s := awaitPhase(t, states, Ended); s.Why != "its holder ended" {
			t.Errorf("%s: %+v", name, s)
		}
		wall.send(m)
		wall.wantEnd()
		w.stop()
	}
}

func TestWallSendsWhatNobodyAskedFor(t *testing.T) {
	w := newWorld(t, nil)
	wall, holder, _ := w.ready()
	<-w.served
	wall.plugged(9) // of no sandbox: it may have ended
	wall.plugged(1)
	wall.wantEnd()
	holder.wantReplug()
	if len(w.served) != 0 {
		t.Error("it was served")
	}
}

// A wall hands over what is no listener: the sandbox is closed, not half served.
func TestWallHandsOverNonsense(t *testing.T) {
	w := newWorld(t, nil)
	w.register(1)
	wall, holder := w.wall(), w.holder(1)
	states := w.follow(1)
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	for i := range maxPlugRetries + 1 {
		if m := wall.receive(); m.Plug == nil {
			t.Fatalf("%+v", m)
		}
		wall.send(wire.Message{Plugged: &wire.Plugged{Sandbox: id(1)}}, null, null)
		if i < maxPlugRetries {
			holder.wantReplug()
			holder.netns()
		}
	}
	if s := awaitPhase(t, states, Ended); !strings.Contains(s.Why, "the wall could not plug it: ") {
		t.Errorf("%+v", s)
	}
}

// A holder that cannot set its addresses is tried a few times, not for ever.
func TestHolderIsNeverReady(t *testing.T) {
	w := newWorld(t, nil)
	w.register(1)
	wall, holder := w.wall(), w.holder(1)
	states := w.follow(1)
	for i := range maxPlugRetries + 1 {
		wall.wantPlug(1)
		if m := holder.receive(); m.Address == nil {
			t.Fatalf("%+v", m)
		}
		holder.send(wire.Message{Ready: &wire.Ready{Error: "no"}})
		if i < maxPlugRetries {
			holder.wantReplug()
			holder.netns()
		}
	}
	awaitPhase(t, states, Ended)
}

func TestServersThatEndCloseTheSandbox(t *testing.T) {
	for name, end := range map[string]error{"with an error": errors.New("broken"), "without": nil} {
		w := newWorld(t, func(h *Hub) { h.Serve = func(context.Context, Plugged) error { return end } })
		w.register(1)
		wall, holder := w.wall(), w.holder(1)
		states := w.follow(1)
		addr := wall.wantPlug(1)
		if s := awaitPhase(t, states, Ended); s.Why != "its servers failed" {
			t.Errorf("%s: %+v", name, s)
		}
		if _, err := net.Dial("tcp", addr); err == nil {
			t.Errorf("%s: its listener is open", name)
		}
		if m := holder.receive(); m.Address == nil {
			t.Errorf("%s: %+v", name, m)
		}
		holder.wantRefused("the sandbox has ended")
		w.stop()
	}
}
