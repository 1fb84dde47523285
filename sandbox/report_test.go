package sandbox

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/wall/wire"
)

func TestPacketsAreRecordedAndTaken(t *testing.T) {
	w := newWorld(t, nil)
	wall, _, _ := w.ready()
	known, gone := udp(1, 0), udp(1, 0)
	known.Sandbox, gone.Sandbox = id(1), id(7)
	wall.send(wire.Message{Packets: &wire.Packets{Packets: []wire.Packet{known, known, gone, gone, gone},
		Lost: []wire.Lost{{Sandbox: id(1), Rule: "stray", Packets: 4}, {Rule: "\x1b", Packets: 5}}}})
	if m := wall.receive(); m.Taken == nil {
		t.Fatalf("%+v", m)
	}
	w.wantEvent(1, func(e audit.Event) bool {
		return e.Sandbox == id(1) && e.Agent == "a" && e.Rule == "other" && e.Count == 2
	})
	w.wantEvent(1, func(e audit.Event) bool {
		return e.Sandbox == id(7) && e.Agent == "" && e.Rule == "other" && e.Count == 3
	})
	w.wantEvent(1, func(e audit.Event) bool {
		return e.Rule == "lost" && e.Lost == 4 && e.Count == 0 && e.Agent == "a" && strings.Contains(e.Reason, `rule "stray"`) && !e.About
	})
	w.wantEvent(1, func(e audit.Event) bool {
		return e.Rule == "lost" && e.Lost == 5 && strings.Contains(e.Reason, `rule "other"`)
	})
	w.wantEvent(4, func(audit.Event) bool { return true })
}

// What the wall put right in its own namespace is an event of no sandbox.
func TestWhatTheWallPutRightIsRecorded(t *testing.T) {
	w := newWorld(t, nil)
	wall, _, _ := w.ready()
	wall.send(wire.Message{Packets: &wire.Packets{Restored: []wire.Restored{{What: wire.Rules, Times: 3}, {What: wire.Routing, Times: 1},
		{What: wire.Interface, Times: 1}, {What: "\x1b", Times: 1}}}})
	if m := wall.receive(); m.Taken == nil {
		t.Fatalf("%+v", m)
	}
	for reason, count := range map[string]int64{"the rules in": 3, "the routing in": 1, "an interface that": 1, `put right ("\x1b")`: 1} {
		w.wantEvent(1, func(e audit.Event) bool {
			return e.Layer == audit.LayerControl && e.Rule == "wall-changed" && e.Denied() && e.Subject == audit.Subject{} &&
				strings.Contains(e.Reason, reason) && e.Count == count
		})
	}
	w.wantEvent(4, func(audit.Event) bool { return true })
}

// Packets that cannot be recorded are not taken before they are, and nothing of
// their sandbox is forgotten when it ends meanwhile.
func TestPacketsWhileTheRecordFails(t *testing.T) {
	w := newWorld(t, nil)
	wall, _, _ := w.ready()
	failed := make(chan struct{})
	w.mu.Lock()
	w.record.err, w.record.failed = errors.New("disk full"), failed
	w.mu.Unlock()
	p := udp(1, 0)
	p.Sandbox = id(1)
	wall.send(wire.Message{Packets: &wire.Packets{Packets: []wire.Packet{p, p}, Lost: []wire.Lost{{Sandbox: id(1), Packets: 2}}}})
	<-failed
	w.hub.Unregister(id(1))
	if m := wall.receive(); m.Unplug == nil {
		t.Fatalf("%+v", m)
	}
	w.fail(nil)
	if m := wall.receive(); m.Taken == nil {
		t.Fatalf("%+v", m)
	}
	w.stop()
	if got := w.record.total(); got != 4 {
		t.Errorf("%d of 4: %+v", got, w.events())
	}
	w.wantEvent(2, func(e audit.Event) bool { return e.Agent == "a" })
}

// What the wall tells of a sandbox after its end is still that sandbox's.
func TestPacketsAfterTheEnd(t *testing.T) {
	w := newWorld(t, nil)
	wall, _, addr := w.ready()
	p := <-w.served
	open := dial(t, addr)
	if _, err := p.Intercept.Accept(); err != nil {
		t.Fatal(err)
	}
	w.hub.Unregister(id(1))
	if m := wall.receive(); m.Unplug == nil {
		t.Fatalf("%+v", m)
	}
	late := udp(1, 0)
	accepted := syn(time.Now(), open.LocalAddr().(*net.TCPAddr).AddrPort(), open.RemoteAddr().(*net.TCPAddr).AddrPort())
	never := syn(time.Now(), netip.MustParseAddrPort("10.213.0.0:1"), netip.MustParseAddrPort("203.0.113.1:443"))
	reset, stray := accepted, never
	reset.Rule, stray.Rule = ruleStray, ruleStray
	stray.Data = append([]byte(nil), never.Data...)
	stray.Data[21]++ // of no connection that anybody knows
	stray.Sandbox, reset.Sandbox, late.Sandbox, accepted.Sandbox, never.Sandbox = id(1), id(1), id(1), id(1), id(1)
	wall.send(wire.Message{Packets: &wire.Packets{Packets: []wire.Packet{late, accepted, never, reset, stray}}})
	if m := wall.receive(); m.Taken == nil {
		t.Fatalf("%+v", m)
	}
	w.stop()
	w.wantEvent(1, func(e audit.Event) bool { return e.Agent == "a" && e.Rule == "other" })
	w.wantEvent(1, func(e audit.Event) bool {
		return e.Agent == "a" && e.Rule == ruleHalfOpen && e.Dst == "203.0.113.1:443"
	})
	w.wantEvent(1, func(e audit.Event) bool { return e.Rule == ruleStray })
	w.wantEvent(3, func(audit.Event) bool { return true })
}

// A wall is told how many of the segments it counted are settled, at the latest
// when the gateway ends; the next gateway begins from there, and records the rest.
func TestConnectionsOfAGatewayThatDied(t *testing.T) {
	w := newWorld(t, nil)
	wall, _, addr := w.ready()
	p := <-w.served
	dial(t, addr)
	c, err := p.Intercept.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	wall.send(wire.Message{Packets: &wire.Packets{Begun: []wire.Begun{{Sandbox: id(1), Segments: 7, Settled: 2}}}})
	if m := wall.receive(); m.Taken == nil {
		t.Fatalf("%+v", m)
	}
	go w.stop()
	var last wire.Settled
	for {
		m, _, err := wall.Receive()
		if err != nil {
			break
		}
		if m.Settled != nil {
			last = *m.Settled
		}
	}
	if last.Sandbox != id(1) || last.Segments != 3 {
		t.Errorf("settled: %+v", last)
	}
	synctest.Test(t, func(t *testing.T) {
		var r record
		h := still(t, &r)
		h.packets(nil, wire.Packets{Begun: []wire.Begun{{Sandbox: id(1), Segments: 7, Settled: last.Segments}}})
		for range 3 {
			h.report(time.Now(), false)
			time.Sleep(2 * handshakeTime)
		}
		if len(r.events) != 1 || r.events[0].Lost != 4 || !r.events[0].About || r.events[0].Agent != "a" || r.events[0].Rule != "lost" {
			t.Errorf("%+v", r.events)
		}
	})
}

// still is a Hub that reports only when it is told to, with sandbox 1.
func still(t *testing.T, r *record) *Hub {
	t.Helper()
	h := &Hub{Pool4: pool4, StateFile: t.TempDir() + "/r", WallToken: "x", ClaimTimeout: time.Hour, Append: r.append, AppendAll: r.appendAll, Log: newLog(t), Serve: neverServe}
	if err := h.Open(); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Register(registration(1)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Unregister(id(1)) })
	return h
}

// reportFor reports every second.
func reportFor(h *Hub, seconds int) {
	for range seconds {
		time.Sleep(time.Second)
		h.report(time.Now(), false)
	}
}

// Attempts of which nothing is known are reported of a sandbox that ends as well,
// when the wall tells its number late and whether or not the record works then.
func TestLostConnectionsOfASandboxThatEnded(t *testing.T) {
	for name, c := range map[string]struct {
		before, after int // seconds: before its end, and after it
	}{"just before its end": {1, 0}, "long before": {60, 0}, "after its end": {0, 1}, "late": {0, 18}} {
		synctest.Test(t, func(t *testing.T) {
			var r record
			h := still(t, &r)
			tell := func() {
				h.packets(nil, wire.Packets{Begun: []wire.Begun{{Sandbox: id(1), Segments: 7, Settled: 2}}})
			}
			if c.before > 0 {
				tell()
			}
			reportFor(h, c.before)
			h.Unregister(id(1))
			if reportFor(h, c.after); c.after > 0 {
				tell()
			}
			h.report(time.Now().Add(leaveTime), true) // the next gateway asks the wall
			if c.before < 60 && len(r.events) != 0 {
				t.Errorf("%s: at the end: %+v", name, r.events)
			}
			reportFor(h, 60)
			if len(r.events) != 1 || r.events[0].Lost != 5 || !r.events[0].About || r.events[0].Agent != "a" || r.events[0].Rule != "lost" {
				t.Errorf("%s: %+v", name, r.events)
			}
			if len(h.leaving) != 0 {
				t.Errorf("%s: it is kept", name)
			}
		})
	}
}

// Who sends the same first segment for ever does not keep its attempt from the
// record, whether or not a connection of these ports was accepted before.
func TestTheSameSegmentForEver(t *testing.T) {
	for name, accepts := range map[string]bool{"never accepted": false, "accepted at first": true} {
		synctest.Test(t, func(t *testing.T) {
			var r record
			h := still(t, &r)
			src, dst := netip.MustParseAddrPort("10.213.0.0:40000"), netip.MustParseAddrPort("203.0.113.10:443")
			if accepts {
				h.sandboxes[id(1)].half.accept(connected{src: src, dst: dst}, time.Now())
			}
			for range 10 * 60 {
				p := syn(time.Now(), src, dst)
				p.Sandbox = id(1)
				h.packets(nil, wire.Packets{Packets: []wire.Packet{p}})
				reportFor(h, 1)
			}
			if n := len(r.events); n < 3 || n > 5 {
				t.Errorf("%s: %d events in ten minutes", name, n)
			}
			for _, e := range r.events {
				if e.Rule != ruleHalfOpen || e.Count != 1 || e.Dst != dst.String() || e.Agent != "a" {
					t.Errorf("%s: %+v", name, e)
				}
			}
		})
	}
}

// A sandbox that ended is not forgotten while the record fails: the wall waits.
func TestNothingIsForgottenWhileTheRecordFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := record{err: errors.New("disk full")}
		h := still(t, &r)
		p := udp(1, 0)
		p.Sandbox = id(1)
		h.packets(nil, wire.Packets{Packets: []wire.Packet{p}})
		h.Unregister(id(1))
		reportFor(h, 60)
		r.err = nil
		reportFor(h, 2)
		h.packets(nil, wire.Packets{Packets: []wire.Packet{p}})
		reportFor(h, 60)
		if len(r.events) != 2 || r.events[1].Agent != "a" || len(h.leaving) != 0 {
			t.Errorf("%+v, %d kept", r.events, len(h.leaving))
		}
	})
}
