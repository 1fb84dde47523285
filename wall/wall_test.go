package wall

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/sandbox"
	"golang.org/x/sys/unix"
)

// Every TCP connection arrives at its queue, with the address that it wanted.
func TestTCPToAnyAddressArrives(t *testing.T) {
	b := newBox(t)
	gate4, gate6 := b.addr.Gate4.String(), "["+b.addr.Gate6.String()+"]"
	for addr, queue := range map[string]string{
		gate4 + ":8000": "model", gate4 + ":3128": "proxy", gate4 + ":53": "dns", gate4 + ":22": "intercept",
		gate6 + ":8000": "model", gate6 + ":3128": "proxy", gate6 + ":53": "dns",
		"203.0.113.10:80": "intercept", "203.0.113.10:8000": "intercept", "203.0.113.53:53": "dns",
		"169.254.169.254:80": "intercept", "10.0.0.1:3128": "intercept", "172.17.0.1:2375": "intercept", "1.0.0.1:65535": "intercept",
		"[2001:db8::10]:443": "intercept", "[2001:db8::53]:53": "dns", "[fd00:ec2::254]:80": "intercept",
	} {
		_, line, err := b.dial(t, addr)
		if want := b.id + " " + queue + " " + addr; err != nil || line != want {
			t.Errorf("%s: %q (%v), wanted %q", addr, line, err, want)
		}
	}
}

// A DNS query arrives whatever server it asks, and that server answers it.
func TestDNSToAnyServerIsAnswered(t *testing.T) {
	b := newBox(t)
	for _, server := range []string{b.addr.Gate4.String(), "203.0.113.53", "2001:db8::53", "127.0.0.11"} {
		to := netip.AddrPortFrom(netip.MustParseAddr(server), 53)
		var c *net.UDPConn
		b.ns.in(t, func() (err error) {
			c, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
			return err
		})
		defer c.Close()
		query := new(dns.Msg).SetQuestion("evil.example.", dns.TypeA)
		packed, err := query.Pack()
		if err != nil {
			t.Fatal(err)
		}
		if _, err = c.Write(packed); server == "127.0.0.11" {
			continue // that never leaves the sandbox
		} else if err != nil {
			t.Fatal(err)
		}
		c.SetReadDeadline(time.Now().Add(patient))
		answer := make([]byte, 512)
		n, err := c.Read(answer) // connected: of that server and port alone
		if err != nil {
			t.Errorf("%s: %v", server, err)
			continue
		}
		if got := new(dns.Msg); got.Unpack(answer[:n]) != nil || got.Id != query.Id || got.Rcode != dns.RcodeNameError {
			t.Errorf("%s answered %v", server, got)
		}
		b.want(1, "the query to "+server, func(e audit.Event) bool {
			return e.Layer == audit.LayerDNS && e.Dst == to.String() && e.Host == "evil.example"
		})
	}
}

// Other UDP is refused at once, and every packet of it is counted.
func TestOtherUDPIsRefusedAndCounted(t *testing.T) {
	b := newBox(t)
	const packets = 5
	addrs := []string{"203.0.113.1:123", "203.0.113.1:443", b.addr.Gate4.String() + ":4433", "[2001:db8::1]:443"}
	for _, addr := range addrs {
		var c net.Conn
		b.ns.in(t, func() (err error) { c, err = net.Dial("udp", addr); return err })
		defer c.Close()
		for range packets {
			if _, err := c.Write([]byte("x")); err != nil {
				t.Fatalf("%s: %v", addr, err)
			}
			c.SetReadDeadline(time.Now().Add(patient))
			_, err := c.Read(make([]byte, 1))
			if !errors.Is(err, unix.EHOSTUNREACH) && !errors.Is(err, unix.EACCES) {
				t.Errorf("%s: %v", addr, err)
			}
		}
	}
	for _, addr := range addrs {
		b.want(packets, addr, func(e audit.Event) bool { return e.Dst == addr && e.Rule == "other" && e.Agent == "test" })
	}
}

// While no gateway runs every connection is refused at once; each is an event
// when it is back. Sandboxes go on.
func TestGatewayStoppedAndBack(t *testing.T) {
	b := newBox(t)
	open, _, err := b.dial(t, "203.0.113.7:7")
	if err != nil {
		t.Fatal(err)
	}
	b.stop()
	if _, err := open.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("the open connection: %v", err)
	}
	targets := []string{b.addr.Gate4.String() + ":8000", "203.0.113.1:443", "[2001:db8::1]:443"}
	for _, addr := range targets {
		start := time.Now()
		if _, _, err := b.dial(t, addr); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("%s: %v", addr, err)
		}
		if took := time.Since(start); took > 900*time.Millisecond { // before the first retransmission
			t.Errorf("%s was refused only after %s", addr, took)
		}
	}
	var c net.Conn
	b.ns.in(t, func() (err error) { c, err = net.Dial("udp", "203.0.113.53:53"); return err })
	defer c.Close()
	c.Write([]byte("x"))

	b.start()
	for _, addr := range append(targets, "203.0.113.53:53") {
		b.want(1, addr, packetTo(b.id, "closed", addr))
	}
	b.await(b.id, sandbox.Ready)
	if _, line, err := b.dial(t, "203.0.113.9:9"); err != nil || !strings.Contains(line, "203.0.113.9:9") {
		t.Errorf("after its return: %q, %v", line, err)
	}
}

// The wall is killed while the gateway holds its sockets: what was open is reset,
// and the sandbox goes on over a new wall.
func TestWallKilled(t *testing.T) {
	b := newBox(t)
	open, _, err := b.dial(t, "203.0.113.7:7")
	if err != nil {
		t.Fatal(err)
	}
	b.wall.kill()
	if _, err := open.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("the open connection: %v", err)
	}
	b.await(b.id, sandbox.Held)
	newNamespace(t, nil).startWall(t, b.socket)
	b.await(b.id, sandbox.Ready)
	for _, addr := range []string{"203.0.113.9:9", "[2001:db8::9]:9"} {
		if _, line, err := b.dial(t, addr); err != nil || !strings.Contains(line, addr) {
			t.Errorf("%s over the new wall: %q, %v", addr, line, err)
		}
	}
}

// The newest wall is the one; the other ends and says why.
func TestSecondWallTakesOver(t *testing.T) {
	b := newBox(t)
	newNamespace(t, nil).startWall(t, b.socket)
	b.wall.wantError(t, "another wall has taken over")
	b.await(b.id, sandbox.Ready)
	if _, _, err := b.dial(t, "203.0.113.9:9"); err != nil {
		t.Error(err)
	}
}

func TestHolderEnds(t *testing.T) {
	b := newBox(t)
	open, _, err := b.dial(t, "203.0.113.7:7")
	if err != nil {
		t.Fatal(err)
	}
	ended := b.ending(b.id)
	b.holder.kill()
	if s := <-ended; s.Why != "its holder ended" {
		t.Errorf("why: %q", s.Why)
	}
	if _, err := open.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("its connection: %v", err)
	}
	until(t, "its interface is gone", func() bool { return len(b.wallNS.links(t)) == 1 })
}

// A sandbox that is ended tells its holder, which ends and leaves no event.
func TestUnregister(t *testing.T) {
	b := newBox(t)
	b.hub.Unregister(b.id)
	b.holder.wantError(t, "the sandbox has ended")
	until(t, "its interface is gone", func() bool { return len(b.wallNS.links(t)) == 1 })
	b.want(0, "refused connections", func(e audit.Event) bool { return e.Layer == audit.LayerControl })
}

// A wall that stands still holds up nobody else.
func TestWallStandsStill(t *testing.T) {
	b := newBox(t)
	if err := b.wall.Process.Signal(unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	for i := range 20 {
		b.register(fmt.Sprintf("%012x", i))
		b.hub.Unregister(fmt.Sprintf("%012x", i))
	}
	if _, line, err := b.dial(t, "203.0.113.9:9"); err != nil || !strings.Contains(line, "intercept") {
		t.Errorf("the sandbox that is plugged: %q, %v", line, err)
	}
	if took := time.Since(start); took > 4*time.Second { // less than one Send waits
		t.Errorf("it took %s", took)
	}
	second := newNamespace(t, nil)
	token, _ := b.register("ba9876543210")
	second.startHolder(t, b.socket, token)
	b.await("ba9876543210", sandbox.Held)
	if err := b.wall.Process.Signal(unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	b.await("ba9876543210", sandbox.Ready)
}

func TestSecondHolderOfAToken(t *testing.T) {
	b := newBox(t)
	newNamespace(t, nil).startHolder(t, b.socket, b.token).wantError(t, "used a second time")
	newNamespace(t, nil).startHolder(t, b.socket, "unknown").wantError(t, "token is not known")
	newNamespace(t, nil).start(t, "wall", b.socket, "wrong", unix.CAP_NET_ADMIN).wantError(t, "token is not known")
	b.want(3, "refusals", func(e audit.Event) bool { return e.Rule == "wall-socket" })
	if _, _, err := b.dial(t, "203.0.113.9:9"); err != nil {
		t.Error("the sandbox suffered:", err)
	}
}

// Two sandboxes have a queue each, and do not reach each other.
func TestTwoSandboxes(t *testing.T) {
	b := newBox(t)
	second := &box{gateway: b.gateway, id: "ba9876543210", ns: newNamespace(t, nil)}
	second.token, second.addr = b.register(second.id)
	second.ns.startHolder(t, b.socket, second.token)
	b.await(second.id, sandbox.Ready)
	for _, s := range []*box{b, second} {
		for _, addr := range []string{b.addr.Sandbox4.String() + ":80", second.addr.Sandbox4.String() + ":80", "203.0.113.1:80"} {
			if strings.HasPrefix(addr, s.addr.Sandbox4.String()) {
				continue // its own address: it stays inside
			}
			if _, line, err := s.dial(t, addr); err != nil || line != s.id+" intercept "+addr {
				t.Errorf("%s to %s: %q, %v", s.id, addr, line, err)
			}
		}
	}
}

// Nothing stays open, here or in the wall.
func TestDescriptorsAreClosed(t *testing.T) {
	b := newBox(t)
	inWall := b.wall.descriptors(t)
	sandboxes := func(ids ...string) {
		for _, id := range ids {
			token, _ := b.register(id)
			ns := newNamespace(t, nil)
			holder := ns.startHolder(t, b.socket, token)
			b.await(id, sandbox.Ready)
			b.hub.Unregister(id)
			holder.wantError(t, "the sandbox has ended")
			ns.file.Close()
		}
	}
	sandboxes("000000000001")
	before := countDescriptors(t, "/proc/self/fd")
	sandboxes("000000000002", "000000000003", "000000000004")
	until(t, "the gateway closed what it had", func() bool { return countDescriptors(t, "/proc/self/fd") <= before })
	until(t, "the wall closed its copies", func() bool { return b.wall.descriptors(t) <= inWall })
}

// What cannot be recorded now is recorded later: nothing is lost.
func TestFullDisk(t *testing.T) {
	b := newBox(t)
	b.setFail(os.ErrInvalid)
	for _, addr := range []string{"203.0.113.1:123", "203.0.113.1:123", "203.0.113.1:123", "203.0.113.1:124"} {
		var c net.Conn
		b.ns.in(t, func() (err error) {
			d := &net.Dialer{LocalAddr: &net.UDPAddr{Port: 4000}}
			c, err = d.Dial("udp", addr)
			return err
		})
		c.Write([]byte("x"))
		c.SetReadDeadline(time.Now().Add(patient))
		c.Read(make([]byte, 1))
		c.Close()
	}
	until(t, "the gateway has heard of them", func() bool { return b.failures() >= 2 })
	b.setFail(nil)
	b.want(3, "packets", func(e audit.Event) bool { return e.Dst == "203.0.113.1:123" })
}
