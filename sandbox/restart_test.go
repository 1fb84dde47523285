package sandbox

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/wall/wire"
	"golang.org/x/sys/unix"
)

func TestWallComesBack(t *testing.T) {
	w := newWorld(t, nil)
	wall, holder, addr := w.ready()
	a := w.hub.List()[0].Addresses
	p := <-w.served
	open := dial(t, addr)
	if _, err := p.Intercept.Accept(); err != nil {
		t.Fatal(err)
	}
	wall.Close()
	if _, err := open.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the open connection: %v", err)
	}
	holder.wantReplug()
	if s := w.hub.List()[0]; s.Phase != Held {
		t.Errorf("%+v", s)
	}
	if up, _ := w.hub.WallUp(); up {
		t.Error("the wall is up")
	}
	holder.netns()
	wall = w.wall()
	wall.wantPlug(1)
	holder.wantAddress(a)
	w.await(1, Ready)
	<-w.served // which is told a moment later
	if len(w.served) != 0 {
		t.Errorf("served %d times more than once", len(w.served))
	}
}

func TestNewWallReplacesTheOld(t *testing.T) {
	w := newWorld(t, nil)
	old, holder, addr := w.ready()
	next := w.wall()
	old.wantRefused("another wall has taken over")
	holder.wantReplug()
	if _, err := net.Dial("tcp", addr); err == nil {
		t.Error("the old listener is open")
	}
	holder.netns()
	next.wantPlug(1)
	holder.wantAddress(w.hub.List()[0].Addresses)
	w.await(1, Ready)
}

// Many walls at a time: one remains, and the others are told.
func TestManyWalls(t *testing.T) {
	w := newWorld(t, nil)
	results := make(chan bool)
	const walls = 8
	var peers []peer
	for range walls {
		peers = append(peers, w.wall())
	}
	for _, p := range peers {
		go func() {
			m, _, err := p.Receive()
			results <- err == nil && m.Refused != nil
		}()
	}
	for range walls - 1 {
		if !<-results {
			t.Error("a wall was not told")
		}
	}
	for _, p := range peers {
		p.Close()
	}
	<-results
}

func TestGatewayComesBack(t *testing.T) {
	w := newWorld(t, nil)
	wall, holder, _ := w.ready()
	a := w.hub.List()[0].Addresses
	w.stop()
	holder.wantEnd()
	wall.wantEnd()
	if _, err := w.hub.Register(registration(2)); err == nil {
		t.Error("registered after the end")
	}
	next := newWorld(t, func(h *Hub) { h.StateFile = w.hub.StateFile })
	if list := next.hub.List(); len(list) != 1 || list[0].Phase != Waiting || list[0].Addresses != a || list[0].Agent != "a" {
		t.Fatalf("%+v", list)
	}
	wall, holder = next.wall(), next.holder(1)
	wall.wantPlug(1)
	holder.wantAddress(a)
	next.await(1, Ready)
}

// A gateway that ends closes its holders' connections and then its socket. A holder
// that is back in between is not refused: it would end, and its sandbox with it.
func TestHolderIsBackWhileTheGatewayEnds(t *testing.T) {
	w := newWorld(t, nil)
	w.ready()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[1])
	file := os.NewFile(uintptr(pair[0]), "")
	c, err := net.FileConn(file)
	if err := errors.Join(err, file.Close()); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ending, cancel := context.WithCancel(t.Context())
	cancel()
	w.hub.handleHolder(ending, wire.NewConn(c.(*net.UnixConn)), wire.Hello{Role: wire.RoleHold, Token: registration(1).Token}, 0)
	w.wantEvent(0, func(audit.Event) bool { return true })
	if s := w.hub.List()[0]; s.Phase != Ready {
		t.Errorf("%+v", s)
	}
}

func TestUnclaimedRegistrationIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &Hub{Pool4: pool4, Pool6: pool6, StateFile: t.TempDir() + "/r", WallToken: "x", ClaimTimeout: time.Minute,
			Append: (&record{}).append, AppendAll: (&record{}).appendAll, Log: newLog(t), Serve: neverServe}
		if err := h.Open(); err != nil {
			t.Fatal(err)
		}
		if _, err := h.Register(registration(1)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute - time.Nanosecond)
		synctest.Wait()
		if len(h.List()) != 1 {
			t.Fatal("dropped too early")
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if len(h.List()) != 0 || len(h.registry.Sandboxes) != 0 {
			t.Fatalf("%+v", h.List())
		}
	})
}

func (w *world) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.record.err = err
}

func TestForeignInterfaceIsRecorded(t *testing.T) {
	w := newWorld(t, nil)
	_, holder, _ := w.ready()
	states := w.follow(1)
	holder.send(wire.Message{Foreign: &wire.Foreign{Name: "eth1", Kind: "veth", Removed: true, More: 2}})
	if m := holder.receive(); m.Taken == nil {
		t.Fatalf("%+v", m)
	}
	w.fail(errors.New("disk full")) // then it is not taken, and the sandbox ends
	holder.send(wire.Message{Foreign: &wire.Foreign{Name: "eth3", Kind: "veth", Removed: true}})
	holder.wantRefused("the sandbox has ended")
	awaitPhase(t, states, Ended)
	w.wantEvent(1, func(e audit.Event) bool {
		return e.Host == "eth1" && e.Rule == "foreign-interface" && e.Sandbox == id(1) && e.Count == 3 && strings.HasSuffix(e.Reason, "was removed")
	})
}

// A sandbox with an interface that cannot be deleted ends.
func TestForeignInterfaceThatStays(t *testing.T) {
	w := newWorld(t, nil)
	_, holder, _ := w.ready()
	states := w.follow(1)
	holder.send(wire.Message{Foreign: &wire.Foreign{Name: "eth2", Kind: "device", Error: "not permitted\x1b"}})
	if m := holder.receive(); m.Taken == nil {
		t.Fatalf("%+v", m)
	}
	holder.wantRefused("the sandbox has ended")
	if s := awaitPhase(t, states, Ended); s.Why != "a foreign interface could not be deleted" {
		t.Errorf("%+v", s)
	}
	w.wantEvent(1, func(e audit.Event) bool {
		return e.Host == "eth2" && strings.Contains(e.Reason, "could not be deleted") && !strings.Contains(e.Reason, "\x1b")
	})
}

// A peer that cannot be sent to is ended, so that nothing waits for it again.
func TestPeerThatCannotBeSentTo(t *testing.T) {
	w := newWorld(t, nil)
	w.register(1)
	states := w.follow(1)
	c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: w.socket, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	holder := peer{wire.NewConn(c), t}
	holder.send(wire.Message{Hello: &wire.Hello{Role: wire.RoleHold, Token: registration(1).Token}})
	awaitPhase(t, states, Held)
	c.CloseRead()
	holder.netns()
	w.wall().wantPlug(1)
	if s := awaitPhase(t, states, Ended); s.Why != "its holder ended" {
		t.Errorf("%+v", s)
	}
}

func TestUnsafeMountIsRecorded(t *testing.T) {
	w := newWorld(t, nil)
	reg := registration(1)
	reg.UnsafeMount = "it is a home folder"
	w.fail(errors.New("disk full"))
	if _, err := w.hub.Register(reg); err == nil || len(w.hub.List()) != 0 {
		t.Errorf("registered without a record: %v", err)
	}
	w.fail(nil)
	if _, err := w.hub.Register(reg); err != nil {
		t.Fatal(err)
	}
	// Not by the agent that is registered: while the launcher proves the sandbox closed that
	// is the proof, which tables leave out.
	w.wantEvent(1, func(e audit.Event) bool {
		return e.Rule == "--unsafe-mount" && e.Verdict == "allowed" && e.Agent == ""
	})
}

// Nothing of a sandbox stays open.
func TestNoDescriptorStays(t *testing.T) {
	w := newWorld(t, nil)
	wall := w.wall()
	round := func(n int) {
		a := w.register(n)
		states := w.follow(n)
		holder := w.holder(n)
		wall.wantPlug(n)
		holder.wantAddress(a)
		awaitPhase(t, states, Ready)
		w.hub.Unregister(id(n))
		if m := wall.receive(); m.Unplug == nil {
			t.Fatalf("%+v", m)
		}
		holder.wantRefused("ended")
	}
	round(1)
	before := descriptors(t)
	for n := 2; n < 6; n++ {
		round(n)
	}
	w.stop() // waits for what closes its end of a holder's connection
	if after := descriptors(t); after > before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func TestWatch(t *testing.T) {
	w := newWorld(t, nil)
	var got []State
	if err := w.hub.Watch(t.Context(), id(1), func(s State) error { got = append(got, s); return nil }); err != nil ||
		len(got) != 1 || got[0].Phase != Ended || got[0].Why != "it is not registered" {
		t.Errorf("unknown: %v, %+v", err, got)
	}
	w.register(1)
	enough := errors.New("enough")
	if err := w.hub.Watch(t.Context(), id(1), func(State) error { return enough }); err != enough {
		t.Errorf("%v", err)
	}
}

func TestHubNeedsItsFields(t *testing.T) {
	if err := (&Hub{}).Run(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "required") {
		t.Error(err)
	}
	h := &Hub{}
	if _, err := h.Register(registration(1)); err == nil {
		t.Error("registered before it runs")
	}
}

// When the wall goes, a server may find its listener closed before its context
// has ended. Its error is then no failure: the sandbox waits for the next wall.
func TestServersThatSeeTheirListenerCloseFirst(t *testing.T) {
	served := make(chan struct{}, 1)
	w := newWorld(t, func(h *Hub) {
		h.Serve = func(ctx context.Context, p Plugged) error {
			served <- struct{}{}
			_, err := p.Model.Accept()
			<-ctx.Done()
			return err // net.ErrClosed
		}
	})
	wall, holder, _ := w.ready()
	<-served
	wall.Close()
	holder.wantReplug()
	holder.netns()
	again := w.wall()
	again.wantPlug(1)
	if list := w.hub.List(); len(list) != 1 || list[0].Phase != Held {
		t.Errorf("%+v", list)
	}
}
