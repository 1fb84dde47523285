package wall

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/sandbox"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// changed matches the events of what the wall put right.
func changed(reason string) func(audit.Event) bool {
	return func(e audit.Event) bool {
		return e.Layer == audit.LayerControl && e.Rule == "wall-changed" && e.Denied() && e.Sandbox == "" && strings.Contains(e.Reason, reason)
	}
}

// asRoot changes the rules in the wall's namespace as root of the machine would.
func (b *box) asRoot(t *testing.T, change func(*nftables.Conn) error) {
	t.Helper()
	b.wallNS.in(t, func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		return errors.Join(change(c), c.Flush())
	})
}

// ruleset is how many rules there are in each chain; nil while they are changed.
func (b *box) ruleset(t *testing.T) (set []string) {
	t.Helper()
	b.wallNS.in(t, func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		tables, tablesErr := c.ListTables()
		chains, err := c.ListChains()
		err = errors.Join(err, tablesErr)
		for _, table := range tables {
			set = append(set, "table "+table.Name)
		}
		for _, chain := range chains {
			rules, rulesErr := c.GetRules(chain.Table, chain)
			set, err = append(set, chain.Table.Name+" "+chain.Name+" "+itoa(len(rules))), errors.Join(err, rulesErr)
		}
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINTR) {
			set, err = nil, nil
		}
		return err
	})
	return set
}

// Whatever somebody changes about the rules, they are put back, and that is an
// event; connections that are open go on.
func TestRulesArePutBack(t *testing.T) {
	b := newBox(t)
	whole := b.ruleset(t)
	ours := &nftables.Table{Family: nftables.TableFamilyINet, Name: "wall"}
	pre := &nftables.Chain{Name: "pre", Table: ours}
	open, _, err := b.dial(t, "203.0.113.7:7")
	if err != nil {
		t.Fatal(err)
	}
	times := int64(0)
	for _, c := range []struct {
		name   string
		change func(*nftables.Conn) error
	}{
		{"nft flush ruleset", func(c *nftables.Conn) error { c.FlushRuleset(); return nil }},
		{"nft flush ruleset, again", func(c *nftables.Conn) error { c.FlushRuleset(); return nil }},
		{"nft delete table", func(c *nftables.Conn) error { c.DelTable(ours); return nil }},
		{"nft flush chain", func(c *nftables.Conn) error { c.FlushChain(pre); return nil }},
		{"nft delete rule", func(c *nftables.Conn) error {
			rules, err := c.GetRules(ours, pre)
			if err != nil {
				return err
			}
			return c.DelRule(rules[len(rules)-1])
		}},
		{"nft flush set", func(c *nftables.Conn) error { c.FlushSet(&nftables.Set{Table: ours, Name: "counts"}); return nil }},
		{"another table", func(c *nftables.Conn) error {
			c.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: "theirs"})
			return nil
		}},
	} {
		b.asRoot(t, c.change)
		times++
		until(t, c.name+" is recorded", func() bool { return b.count(changed("the rules")) >= times })
		until(t, "after "+c.name+" the rules are whole", func() bool { return slices.Equal(b.ruleset(t), whole) })
		times = b.count(changed("the rules"))
		if _, line, err := b.dial(t, "203.0.113.9:9"); err != nil || !strings.HasSuffix(line, "203.0.113.9:9") {
			t.Errorf("after %s: %q, %v", c.name, line, err)
		}
	}
	if _, err := open.Write([]byte("x")); err != nil {
		t.Error("the open connection:", err)
	}
	if times > 2*7 { // a change that the ledger finds first may count twice
		t.Errorf("%d changes recorded, of 7", times)
	}
}

// Of a hundred flushes in a row each is put back, and they make fewer events than
// that.
func TestManyFlushesAreFewEvents(t *testing.T) {
	b := newBox(t)
	whole := b.ruleset(t)
	const flushes = 100
	for range flushes {
		b.asRoot(t, func(c *nftables.Conn) error { c.FlushRuleset(); return nil })
	}
	until(t, "the rules are whole", func() bool { return slices.Equal(b.ruleset(t), whole) && b.count(changed("the rules")) > 0 })
	events := len(slices.DeleteFunc(b.all(), func(e audit.Event) bool { return e.Rule != "wall-changed" }))
	if n := b.count(changed("the rules")); n > flushes+10 || events > flushes {
		t.Errorf("%d changes in %d events, of %d flushes", n, events, flushes)
	}
}

// What is refused before and after the counters began anew is counted once.
func TestCountersBeginAnew(t *testing.T) {
	b := newBox(t)
	b.records.Store(true)
	const each, rounds = 200, 3
	to := netip.MustParseAddrPort("203.0.113.8:8")
	total, whole := int64(0), b.ruleset(t)
	for range rounds {
		b.ns.in(t, func() error {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			for range each {
				total += sendUDP(fd, to)
			}
			return nil
		})
		total += b.connects(t, 2, 25, to, 0)
		attempts := func() int64 {
			recorded, lost := b.attempts()
			return recorded + lost - b.count(changed(""))
		}
		until(t, "all is accounted for", func() bool { return attempts() >= total })
		b.asRoot(t, func(c *nftables.Conn) error { c.FlushRuleset(); return nil })
		until(t, "they are put back", func() bool { return slices.Equal(b.ruleset(t), whole) })
		if got := attempts(); got != total {
			t.Errorf("%d accounted for, not %d: %+v", got, total, b.all())
		}
	}
}

// The routing that the rules rely on is put back, and a way out is removed.
func TestRoutingIsPutBack(t *testing.T) {
	b := newBox(t)
	mark := func(family int) error {
		rules, err := netlink.RuleList(family)
		for _, rule := range rules {
			if rule.Mark == delivered {
				err = errors.Join(err, netlink.RuleDel(&rule))
			}
		}
		return err
	}
	table := func(family int) error {
		routes, err := netlink.RouteListFiltered(family, &netlink.Route{Table: 100}, netlink.RT_FILTER_TABLE)
		for _, route := range routes {
			err = errors.Join(err, netlink.RouteDel(&route))
		}
		return err
	}
	lo := func(int) error {
		link, err := netlink.LinkByName("lo")
		return errors.Join(err, netlink.LinkSetDown(link))
	}
	times := int64(0)
	for name, change := range map[string]func(family int) error{"ip rule del": mark, "ip route flush table 100": table, "ip link set lo down": lo} {
		for family, addr := range map[int]string{unix.AF_INET: "203.0.113.9:9", unix.AF_INET6: "[2001:db8::9]:9"} {
			b.wallNS.in(t, func() error { return change(family) })
			times++
			until(t, name+" is recorded", func() bool { return b.count(changed("the routing")) >= times })
			times = b.count(changed("the routing"))
			if _, line, err := b.dial(t, addr); err != nil || !strings.HasSuffix(line, addr) {
				t.Errorf("after %s: %q, %v", name, line, err)
			}
		}
	}
	b.wallNS.in(t, func() error { return netlink.LinkAdd(veth("eth7")) })
	until(t, "the way out is recorded", func() bool { return b.count(changed("an interface")) > 0 })
	until(t, "it is gone", func() bool { return slices.Equal(b.wallNS.links(t), []string{"lo", interfaceName(b.id)}) })
	if _, _, err := b.dial(t, "203.0.113.9:9"); err != nil {
		t.Error("the sandbox suffered:", err)
	}
}

// A wall whose rules cannot be put back ends.
func TestWallEndsWhereRulesCannotBePutBack(t *testing.T) {
	b := newBox(t)
	const owner = 2 // NFT_TABLE_F_OWNER, Linux 5.12: nobody else can change it
	b.wallNS.in(t, func() error {
		c, err := nftables.New(nftables.AsLasting())
		if err != nil {
			return err
		}
		t.Cleanup(func() { c.CloseLasting() })
		c.FlushRuleset()
		c.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: "wall", Flags: owner})
		return c.Flush()
	})
	b.wall.wantError(t, "apply the wall's rules")
	b.await(b.id, sandbox.Held)
}

// Between a flush and the wall's answer, which a wall that stands still never gives,
// nothing passes to another sandbox, since nothing is forwarded.
func TestWithoutRulesNothingPasses(t *testing.T) {
	b := newBox(t)
	o := b.other(t)
	var l net.Listener
	o.ns.in(t, func() (err error) {
		l, err = net.Listen("tcp4", netip.AddrPortFrom(o.addr.Sandbox4, 80).String())
		return err
	})
	defer l.Close()
	if err := b.wall.Process.Signal(unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	b.asRoot(t, func(c *nftables.Conn) error { c.FlushRuleset(); return nil })
	dial := func() error {
		var c net.Conn
		var err error
		b.ns.in(t, func() error {
			c, err = (&net.Dialer{Timeout: 500 * time.Millisecond}).Dial("tcp", l.Addr().String())
			return nil
		})
		if err == nil {
			c.Close()
		}
		return err
	}
	if dial() == nil {
		t.Error("another sandbox was reached")
	}
	b.wallNS.in(t, func() error { return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0) })
	if err := dial(); err != nil {
		t.Errorf("with forwarding it would be reached, or this test shows nothing: %v", err)
	}
}

// Where forwarding is switched on the wall ends: it cannot switch it off.
func TestWallEndsWhereForwardingIsOn(t *testing.T) {
	for _, name := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} {
		b := newBox(t)
		b.wallNS.in(t, func() error { return os.WriteFile("/proc/sys/net/"+name, []byte("1"), 0) })
		b.wall.wantError(t, "forward")
		b.await(b.id, sandbox.Held)
	}
}
