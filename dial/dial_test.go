package dial_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport/sallyport/dial"
)

func TestDialRefusesWhatANamePointsTo(t *testing.T) {
	n := &network{
		names: map[string][]string{
			"rebound.example":  {"127.0.0.1"},
			"private.example":  {"10.1.2.3", "fd00::1", "192.168.1.1"},
			"metadata.example": {"169.254.169.254"},
			"mapped.example":   {"::ffff:10.0.0.1"},
			"nat64.example":    {"64:ff9b::a00:1"},
			"own.example":      {"203.0.113.80"},
			"ownmap.example":   {"::ffff:203.0.113.80"},
			"pool.example":     {"2001:db8:53::9"},
			"zone.example":     {"2001:db8::1%eth0"},
		},
		connect: map[string]func(context.Context) error{},
	}
	d := n.dialer()
	d.Own = []netip.Prefix{netip.MustParsePrefix("203.0.113.80/32"), netip.MustParsePrefix("2001:db8:53::/48")}
	for _, c := range []struct{ host, addr, why string }{
		{"rebound.example", "127.0.0.1", "a loopback address"},
		{"private.example", "10.1.2.3", "a private address"},
		{"metadata.example", "169.254.169.254", "a cloud metadata address"},
		{"mapped.example", "10.0.0.1", "a private address"},
		{"nat64.example", "64:ff9b::a00:1", "a NAT64 address"},
		{"own.example", "203.0.113.80", "an address of this machine or of its sandboxes"},
		{"ownmap.example", "203.0.113.80", "an address of this machine or of its sandboxes"},
		{"pool.example", "2001:db8:53::9", "an address of this machine or of its sandboxes"},
		{"zone.example", "2001:db8::1%eth0", "an address with a zone"},
		{"127.0.0.1", "127.0.0.1", "a loopback address"},
		{"::ffff:127.0.0.1", "127.0.0.1", "a loopback address"},
	} {
		conn, err := d.Dial(t.Context(), c.host, 443)
		var refused *dial.RefusedError
		if conn != nil || !errors.As(err, &refused) {
			t.Errorf("%s: %v, %v; want a refusal", c.host, conn, err)
			continue
		}
		if refused.Host != c.host || refused.Addr.String() != c.addr || refused.Why != c.why {
			t.Errorf("%s: %+v; want %s, %s", c.host, refused, c.addr, c.why)
		}
	}
	if len(n.tried) != 0 {
		t.Errorf("connected to %v", n.tried)
	}
}

func TestDialSkipsRefusedAddresses(t *testing.T) {
	n := &network{
		names:   map[string][]string{"mixed.example": {"10.0.0.1", "203.0.113.1", "203.0.113.1", "127.0.0.1", "203.0.113.2"}},
		connect: map[string]func(context.Context) error{"203.0.113.2": atOnce},
	}
	conn, err := n.dialer().Dial(t.Context(), "mixed.example", 443)
	if err != nil {
		t.Fatal(err)
	}
	if got := conn.RemoteAddr().String(); got != "203.0.113.2:443" {
		t.Errorf("connected to %s", got)
	}
	if got := strings.Join(n.tried, " "); got != "203.0.113.1 203.0.113.2" {
		t.Errorf("tried %s; want each allowed address once, in order", got)
	}
	if n.open() != 1 {
		t.Errorf("%d connections open, want 1", n.open())
	}
}

func TestDialJoinsAndWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &network{
			names: map[string][]string{"slow.example": {"203.0.113.1", "203.0.113.2", "203.0.113.3"}},
			connect: map[string]func(context.Context) error{
				"203.0.113.1": never,
				"203.0.113.2": after(300 * time.Millisecond),
				"203.0.113.3": after(400 * time.Millisecond), // loses, and must be closed
			},
		}
		start := time.Now()
		conn, err := n.dialer().Dial(t.Context(), "slow.example", 443)
		if err != nil {
			t.Fatal(err)
		}
		if got := conn.RemoteAddr().String(); got != "203.0.113.2:443" {
			t.Errorf("connected to %s", got)
		}
		if took := time.Since(start); took != 900*time.Millisecond {
			t.Errorf("took %v; want 900ms, the end of the last attempt", took)
		}
		if len(n.conns) != 2 || n.open() != 1 {
			t.Errorf("%d connections, %d open; want 2 and 1", len(n.conns), n.open())
		}
	})
}

func TestDialTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &network{
			names:   map[string][]string{"dead.example": {"203.0.113.1"}},
			connect: map[string]func(context.Context) error{"203.0.113.1": never},
		}
		for _, c := range []struct{ set, want time.Duration }{{0, 15 * time.Second}, {time.Second, time.Second}} {
			d := n.dialer()
			d.Timeout = c.set
			start := time.Now()
			_, err := d.Dial(t.Context(), "dead.example", 443)
			if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != c.want {
				t.Errorf("timeout %v: %v after %v", c.set, err, time.Since(start))
			}
		}
	})
}

func TestDialTriesABoundedNumberOfAddresses(t *testing.T) {
	n := &network{names: map[string][]string{}}
	for i := range 200 {
		a := netip.AddrFrom4([4]byte{203, 0, 113, byte(i)}).String()
		n.names["many.example"] = append(n.names["many.example"], a)
	}
	if _, err := n.dialer().Dial(t.Context(), "many.example", 443); err == nil {
		t.Error("connected")
	}
	if len(n.tried) != 16 {
		t.Errorf("tried %d addresses, want 16", len(n.tried))
	}
}

func TestDialVerifiesTheConnection(t *testing.T) {
	for _, c := range []struct{ name, local, remote, why string }{
		{"elsewhere", "", "203.0.113.9:443", "not the checked address 203.0.113.1:443"},
		{"other port", "", "203.0.113.1:80", "not the checked address 203.0.113.1:443"},
		{"loopback", "", "127.0.0.1:443", "not the checked address 203.0.113.1:443"},
		{"this machine", "203.0.113.1:40000", "", "an address of this machine"},
	} {
		n := &network{
			names:   map[string][]string{"a.example": {"203.0.113.1"}},
			connect: map[string]func(context.Context) error{"203.0.113.1": atOnce},
			local:   c.local, remote: c.remote,
		}
		_, err := n.dialer().Dial(t.Context(), "a.example", 443)
		var refused *dial.RefusedError
		if !errors.As(err, &refused) || refused.Why != c.why {
			t.Errorf("%s: %v; want %q", c.name, err, c.why)
		}
		if n.open() != 0 {
			t.Errorf("%s: the connection was left open", c.name)
		}
	}
	// A connection that is not TCP says nothing about where it ends.
	pipe := &dial.Dialer{
		Resolve: func(context.Context, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr("203.0.113.1")}, nil
		},
		Connect: func(context.Context, netip.AddrPort) (net.Conn, error) { a, _ := net.Pipe(); return a, nil },
	}
	if _, err := pipe.Dial(t.Context(), "a.example", 443); err == nil {
		t.Error("a connection without a TCP address was accepted")
	}
}

func TestDialErrors(t *testing.T) {
	n := &network{names: map[string][]string{"empty.example": {}, "closed.example": {"203.0.113.1", "203.0.113.2"}}}
	for _, c := range []struct {
		d          *dial.Dialer
		host, want string
	}{
		{&dial.Dialer{}, "a.example", "must be set"},
		{&dial.Dialer{Resolve: n.resolve}, "a.example", "must be set"},
		{&dial.Dialer{Connect: n.dial}, "a.example", "must be set"},
		{n.dialer(), "nowhere.example", `resolve "nowhere.example": no such host`},
		{n.dialer(), "empty.example", "holds no address"},
		{n.dialer(), "closed.example", "connection refused by 203.0.113.2:443"},
	} {
		conn, err := c.d.Dial(t.Context(), c.host, 443)
		if conn != nil || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v; want an error with %q", c.host, conn, err, c.want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := n.dialer().Dial(ctx, "closed.example", 443); !errors.Is(err, context.Canceled) {
		t.Errorf("after cancelling: %v", err)
	}
}

// The machine's own connector, on loopback: the dialer refuses it, but only
// after the checks; TCP itself must connect and report addresses as verify
// expects them.
func TestSystemConnector(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	to := netip.MustParseAddrPort(l.Addr().String())
	conn, err := dial.TCP(t.Context(), to)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if got, ok := conn.RemoteAddr().(*net.TCPAddr); !ok || got.AddrPort() != to {
		t.Errorf("connected to %v, want %v", conn.RemoteAddr(), to)
	}
	own, err := dial.MachineAddresses()
	if err != nil {
		t.Fatal(err)
	}
	var loopback bool
	for _, p := range own {
		loopback = loopback || p == netip.MustParsePrefix("127.0.0.1/32")
	}
	if !loopback {
		t.Errorf("%v lacks 127.0.0.1/32", own)
	}
}

func TestResolverLooksNamesUpAsTheyStand(t *testing.T) {
	resolve := dial.Resolver(func(_ context.Context, network, host string) ([]netip.Addr, error) {
		if network != "ip" || host != "a.example." {
			t.Errorf("looked up %q %q; want the name with its root dot, which no search list is tried for", network, host)
		}
		return nil, nil
	})
	for _, host := range []string{"a.example", "a.example."} {
		if _, err := resolve(t.Context(), host); err != nil {
			t.Error(err)
		}
	}
}
