package host

import (
	"context"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/verify"
	"github.com/sallyport/sallyport/verify/probe"
)

func TestTrapsTellWhoReachedThem(t *testing.T) {
	if !inChild(t) {
		return
	}
	own := netip.MustParseAddr("198.51.100.40")
	if err := addAddress(own); err != nil {
		t.Fatal(err)
	}
	traps, err := Open(t.Context(), "0a1b2c3d")
	if err != nil {
		t.Fatal(err)
	}
	to := target(probe.Ordinary)
	traps.Describe(&to.Host)
	h := to.Host
	if !slices.Equal(h.Addrs, []netip.Addr{own}) || h.TrapTCP == 0 || h.TrapUDP == 0 || h.TCP[0] != h.TrapTCP || h.UDP[0] != h.TrapUDP ||
		h.Abstract != "sallyport-verify-0a1b2c3d" || h.PID != os.Getpid() || h.Started == 0 {
		t.Errorf("described: %+v", h)
	}
	if got := traps.Touched(); len(got) != 0 {
		t.Errorf("touched by nobody: %q", got)
	}
	say(t, "tcp", netip.AddrPortFrom(own, h.TrapTCP).String(), to.Payload("host-ports-tcp/ordinary container"))
	say(t, "udp", netip.AddrPortFrom(own, h.TrapUDP).String(), to.Payload("host-ports-udp/ordinary container"))
	say(t, "tcp", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), h.TrapTCP).String(), []byte("\x1b[2J\n"))
	say(t, "unix", "@"+h.Abstract, []byte(strings.Repeat("x", 65)))
	got := traps.Touched()
	if len(got) != 4 {
		t.Fatalf("touched %q", got)
	}
	for i, want := range []string{`^tcp 198.51.100.40:`, `"sallyport 0a1b2c3d host-ports-tcp/ordinary container\n"`, `udp 198.51.100.40:`, `"sallyport 0a1b2c3d host-ports-udp/ordinary container\n"`,
		`tcp 127.0.0.1:`, `"\x1b[2J\n"`, `unix @sallyport-verify-0a1b2c3d from`, `: "` + strings.Repeat("x", 64) + `"`} {
		if !strings.Contains("^"+got[i/2], want) {
			t.Errorf("touched %q, want %s", got, want)
		}
	}
	if err := traps.Close(); err != nil {
		t.Error(err)
	}
	for network, addr := range map[string]string{"tcp": netip.AddrPortFrom(own, h.TrapTCP).String(), "unix": "@" + h.Abstract} {
		if conn, err := net.Dial(network, addr); err == nil {
			conn.Close()
			t.Errorf("%s %s is open after Close", network, addr)
		}
	}
	if got := traps.Touched(); len(got) != 4 {
		t.Errorf("forgotten: %q", got)
	}
}

// say says something, and waits until the trap has heard it.
func say(t *testing.T, network, addr string, said []byte) {
	t.Helper()
	conn, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write(said); err != nil {
		t.Fatal(err)
	}
	greeting := make([]byte, len(probe.Greeting))
	if _, err := io.ReadFull(conn, greeting); err != nil || string(greeting) != probe.Greeting {
		t.Fatalf("greeted with %q, %v", greeting, err)
	}
	if network != "udp" {
		_, _ = conn.Read(greeting) // its end, or a reset where not all was read
	}
}

// Who connects and says nothing was here as well.
func TestTrapsCountTheSilent(t *testing.T) {
	if !inChild(t) {
		return
	}
	traps := opened(t, t.Context())
	conn, err := net.Dial("tcp", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), traps.tcp).String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.ReadFull(conn, make([]byte, len(probe.Greeting))); err != nil {
		t.Fatal(err)
	}
	if got := traps.Touched(); len(got) != 1 || !strings.HasSuffix(got[0], `: ""`) {
		t.Errorf("touched %q", got)
	}
	if err := traps.Close(); err != nil { // does not wait for it to say something
		t.Error(err)
	}
}

func opened(t *testing.T, ctx context.Context) *Traps {
	t.Helper()
	if err := addAddress(netip.AddrFrom4([4]byte{127, 0, 0, 1})); err != nil {
		t.Fatal(err)
	}
	traps, err := Open(ctx, "0a1b2c3d")
	if err != nil {
		t.Fatal(err)
	}
	return traps
}

func TestTrapsEndWithTheirContext(t *testing.T) {
	if !inChild(t) {
		return
	}
	ctx, cancel := context.WithCancel(t.Context())
	traps := opened(t, ctx)
	to := target(probe.Sandbox)
	for _, look := range []func(context.Context, probe.Target) probe.Finding{seeSegment, seeFile(shmFile), seeFile(tmpFile)} {
		if f := look(ctx, to); f.Outcome != verify.Reached {
			t.Errorf("left about: %+v", f)
		}
	}
	cancel()
	if err := traps.Close(); err != nil {
		t.Error(err)
	}
	for _, look := range []func(context.Context, probe.Target) probe.Finding{seeSegment, seeFile(shmFile), seeFile(tmpFile)} {
		if f := look(t.Context(), to); f.Outcome != verify.StoppedInside || f.Errno != "ENOENT" {
			t.Errorf("left behind: %+v", f)
		}
	}
}

// A second run of the same name would take the first one's things for its own.
func TestTrapsOfOneRunAreOne(t *testing.T) {
	if !inChild(t) {
		return
	}
	first := opened(t, t.Context())
	if second, err := Open(t.Context(), "0a1b2c3d"); err == nil {
		t.Errorf("opened twice: %v", second.Close())
	}
	to := target(probe.Sandbox)
	if f := seeFile(tmpFile)(t.Context(), to); f.Outcome != verify.Reached {
		t.Errorf("the first one's is gone: %+v", f)
	}
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	if _, err := Open(t.Context(), "no number"); err == nil {
		t.Error("a run that is no number")
	}
}

func TestListening(t *testing.T) {
	const tcp = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   1: 0100007F:0277 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2 1 0 100 0 0 10 0
   2: 046433C6:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 3 1 0 100 0 0 10 0
   3: 046433C6:1F91 076433C6:0050 01 00000000:00000000 00:00000000 00000000     0        0 4 1 0 100 0 0 10 0
`
	const tcp6 = `  sl  local_address                         remote_address                        st
   0: 00000000000000000000000000000000:01BB 00000000000000000000000000000000:0000 0A 0
   1: 00000000000000000000000001000000:0278 00000000000000000000000000000000:0000 0A 0
   2: 0000000000000000FFFF00000100007F:0279 00000000000000000000000000000000:0000 0A 0
   3: B80D0120000000000000000001000000:01BC 00000000000000000000000000000000:0000 0A 0
   4: nonsense:01BC 0 0A
`
	if got := parseTable([]byte(tcp), stateListen); !slices.Equal(got, []uint16{22, 8080}) {
		t.Errorf("IPv4: %v", got)
	}
	if got := parseTable([]byte(tcp6), stateListen); !slices.Equal(got, []uint16{443, 444}) {
		t.Errorf("IPv6: %v", got)
	}
	if got, err := parseAddress("B80D0120000000000000000001000000:01BC"); err != nil || got.String() != "[2001:db8::1]:444" {
		t.Errorf("got %v, %v", got, err)
	}
}
