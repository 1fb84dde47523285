package sandbox

import (
	"net/netip"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/wall/wire"
)

func TestLookups(t *testing.T) {
	key := func(port uint16) flowKey {
		return flowKey{rule: "other", header: header{proto: protoUDP, src: netip.MustParseAddr("10.213.0.0"), sport: port, dst: netip.MustParseAddr("203.0.113.5"), dport: 7}}
	}
	var l lookups
	asked := 0
	find := func(proto string, src, dst netip.AddrPort) *audit.Process {
		asked++
		if proto != "udp" || dst.Port() != 7 {
			t.Errorf("asked for %s %s", proto, dst)
		}
		return &audit.Process{PID: asked, Command: src.String()}
	}
	now := epoch
	for range maxLookups { // each is looked up anew: its port may be another's by now
		l.process(key(1), now, now, find)
	}
	if asked != maxLookups {
		t.Fatalf("looked up %d times", asked)
	}
	if p := l.process(key(1), now, now, find); asked != maxLookups || p.PID != maxLookups {
		t.Errorf("beyond the bound: %+v, %d", p, asked)
	}
	if p := l.process(key(2), now, now, find); asked != maxLookups || !strings.Contains(p.Unknown, "too many") || p.PID != 0 {
		t.Errorf("another one beyond the bound: %+v", p)
	}
	now = now.Add(lookupWindow)
	if p := l.process(key(2), now, now, find); p.PID != maxLookups+1 || p.Command != "10.213.0.0:2" {
		t.Errorf("in the next window: %+v", p)
	}
	for name, change := range map[string]func(*flowKey){
		"forged": func(k *flowKey) { k.rule = "spoof" }, "piece": func(k *flowKey) { k.rule = "fragment" }, "too late": func(k *flowKey) { k.rule = ruleHalfOpen },
	} {
		k := key(3)
		change(&k)
		if p := l.process(k, now, now, find); p == nil || p.PID != 0 || !strings.Contains(p.Unknown, name) {
			t.Errorf("%s: %+v", name, p)
		}
	}
	if p := l.process(key(3), now.Add(-freshTime-1), now, find); p == nil || p.PID != 0 || p.Unknown == "" {
		t.Errorf("an old packet: %+v", p)
	}
	k := key(0)
	k.proto = protoICMP
	if p := l.process(k, now, now, find); p != nil {
		t.Errorf("a protocol without ports: %+v", p)
	}
	if p := l.process(key(4), now, now, func(string, netip.AddrPort, netip.AddrPort) *audit.Process { return nil }); p != nil {
		t.Errorf("not looked for: %+v", p)
	}
}

// Who sent a packet is asked with the holder's process and namespace, as the kernel
// and the descriptor tell them.
func TestSenderIsLookedFor(t *testing.T) {
	w := newWorld(t, func(h *Hub) {
		h.Find = func(sandbox string, o Origin, proto string, src, dst netip.AddrPort) *audit.Process {
			return &audit.Process{PID: o.Holder, UID: int(o.Netns), Exe: sandbox, Command: proto + " " + src.String() + " " + dst.String()}
		}
	})
	wall, _, _ := w.ready()
	null, err := os.Open(os.DevNull) // which stands for the namespace
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	want := Origin{Holder: os.Getpid(), Netns: inode(null)}
	if p := <-w.served; p.Origin != want || want.Netns == 0 {
		t.Errorf("origin %+v, not %+v", p.Origin, want)
	}
	packet := udp(1, time.Since(epoch))
	packet.Sandbox = id(1)
	wall.send(wire.Message{Packets: &wire.Packets{Packets: []wire.Packet{packet}}})
	if m := wall.receive(); m.Taken == nil {
		t.Fatalf("%+v", m)
	}
	w.wantEvent(1, func(e audit.Event) bool {
		p := e.Process
		return p != nil && p.PID == want.Holder && p.UID == int(want.Netns) && p.Exe == id(1) && p.Command == "udp 10.213.0.0:1 203.0.113.5:123"
	})
}

// Nothing but other packets waits for the senders of a batch, and they only for a
// while.
func TestSendersAreLookedForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r record
		h := still(t, &r)
		h.Find = func(string, Origin, string, netip.AddrPort, netip.AddrPort) *audit.Process {
			if !h.reporting.TryLock() {
				t.Error("reports wait for a sender")
			} else {
				h.reporting.Unlock()
			}
			time.Sleep(lookTime * 3 / 4)
			return &audit.Process{PID: 7}
		}
		batchOf := func(ports ...int) (packets []wire.Packet) {
			for _, port := range ports {
				p := udp(port, time.Since(epoch))
				p.Sandbox = id(1)
				packets = append(packets, p)
			}
			return packets
		}
		h.packets(nil, wire.Packets{Packets: batchOf(1, 2, 3, 4)})
		h.packets(nil, wire.Packets{Packets: batchOf(5)})
		if len(r.events) != 5 {
			t.Fatalf("%+v", r.events)
		}
		for i, e := range r.events {
			looked := i < 2 || i == 4
			if looked && e.Process.PID != 7 || !looked && (e.Process.PID != 0 || !strings.Contains(e.Process.Unknown, "too long")) {
				t.Errorf("%d: %+v", i+1, e.Process)
			}
		}
	})
}
