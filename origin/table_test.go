package origin

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

const heading = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"

// row is a line as the kernel prints it.
func row(a, b netip.AddrPort, six bool, state, uid, inode int) string {
	return fmt.Sprintf("%4d: %s %s %02X 00000000:00000000 00:00000000 00000000 %5d        0 %d 1 0000000000000000 20 0 0 10 -1      \n",
		7, hexed(a, six), hexed(b, six), state, uid, inode)
}

func hexed(a netip.AddrPort, six bool) string {
	b := a.Addr().AsSlice()
	if six {
		full := a.Addr().As16()
		b = full[:]
	}
	var s strings.Builder
	for i := 0; i < len(b); i += 4 {
		fmt.Fprintf(&s, "%08X", binary.NativeEndian.Uint32(b[i:]))
	}
	return fmt.Sprintf("%s:%04X", s.String(), a.Port())
}

func TestParseLine(t *testing.T) {
	for _, c := range []struct {
		a, b string
		six  bool
	}{
		{"10.213.0.2:40000", "203.0.113.9:443", false},
		{"0.0.0.0:53", "0.0.0.0:0", false},
		{"10.213.0.2:40000", "203.0.113.9:443", true},
		{"[2001:db8::2]:65535", "[2001:db8:1:2:3:4:5:6]:1", true},
	} {
		a, b := netip.MustParseAddrPort(c.a), netip.MustParseAddrPort(c.b)
		got, err := parseLine([]byte(row(a, b, c.six, 1, 1000, 123456)))
		if want := (line{local: a, remote: b, state: 1, uid: 1000, inode: 123456}); err != nil || got != want {
			t.Errorf("it is %+v, %v; wanted %+v", got, err, want)
		}
	}
}

func TestEachLine(t *testing.T) {
	a, b := netip.MustParseAddrPort("10.213.0.2:40000"), netip.MustParseAddrPort("203.0.113.9:443")
	one := row(a, b, false, 1, 1000, 5)
	long := heading + strings.Repeat(one, 100_000)
	for _, c := range []struct {
		name, text string
		limit, n   int
		many, bad  bool
	}{
		{"empty", "", 10, 0, false, false},
		{"the heading alone", heading, 10, 0, false, false},
		{"many", long, maxLines, 100_000, false, false},
		{"too many", long, 99_999, 99_999, true, true},
		{"cut", heading + one + one[:60], 10, 1, false, true},
		{"endless", heading + strings.Repeat("x", 1<<20), 10, 0, false, true},
		{"another format", heading + "x y z\n", 10, 0, false, true},
	} {
		n := 0
		err := eachLine(strings.NewReader(c.text), c.limit, func(l line) {
			if l.inode != 5 || l.local != a {
				t.Errorf("%s: it has %+v", c.name, l)
			}
			n++
		})
		if n != c.n || (err != nil) != c.bad || errors.Is(err, errTooMany) != c.many {
			t.Errorf("%s: %d lines, %v", c.name, n, err)
		}
	}
}

func TestFits(t *testing.T) {
	const src, dst = "10.213.0.2:40000", "203.0.113.9:443"
	for _, c := range []struct {
		proto, local, remote string
		state                uint8
		six, accepted        bool
		want                 bool
	}{
		{"tcp", src, dst, 1, false, true, true},
		{"tcp", src, dst, 1, true, true, true},
		{"tcp", src, dst, tcpSynSent, false, false, true},
		{"tcp", src, dst, tcpSynSent, false, true, false}, // another one asks, from the port of one that was reset
		{"tcp", src, dst, tcpNewSyn, false, false, false},
		{"tcp", src, "203.0.113.9:444", 1, false, true, false},
		{"tcp", src, "203.0.113.8:443", 1, false, true, false},
		{"tcp", "10.213.0.2:40001", dst, 1, false, true, false},
		{"tcp", "10.213.0.3:40000", dst, 1, false, true, false},
		{"tcp", dst, src, 1, false, true, false},
		{"tcp", src, "0.0.0.0:0", tcpListen, false, false, false},
		{"udp", src, dst, 1, false, false, true},
		{"udp", "0.0.0.0:40000", "0.0.0.0:0", tcpClose, false, false, true},
		{"udp", "[::]:40000", "[::]:0", tcpClose, true, false, true},
		{"udp", "127.0.0.1:40000", "0.0.0.0:0", tcpClose, false, false, true}, // IP_PKTINFO
		{"udp", src, "203.0.113.9:444", 1, false, false, true},                // sendto
		{"udp", "[2001:db8::1]:40000", "[::]:0", tcpClose, true, false, false},
		{"udp", "0.0.0.0:40001", "0.0.0.0:0", tcpClose, false, false, false},
	} {
		r := &request{proto: c.proto, src: netip.MustParseAddrPort(src), dst: netip.MustParseAddrPort(dst), accepted: c.accepted}
		l := line{local: netip.MustParseAddrPort(c.local), remote: netip.MustParseAddrPort(c.remote), state: c.state}
		if l.fits(r, c.six) != c.want {
			t.Errorf("%+v: it is %v", c, !c.want)
		}
	}
	r := &request{proto: "udp", src: netip.MustParseAddrPort("[2001:db8::1]:53"), dst: netip.MustParseAddrPort("[2001:db8::2]:53")}
	if (line{local: netip.MustParseAddrPort("0.0.0.0:53")}).fits(r, false) {
		t.Error("a socket of IPv4 sends IPv6")
	}
}

func FuzzEachLine(f *testing.F) {
	a, b := netip.MustParseAddrPort("10.213.0.2:40000"), netip.MustParseAddrPort("[2001:db8::2]:443")
	f.Add(heading + row(a, a, false, 1, 1000, 5) + row(b, b, true, 10, 0, 0))
	f.Add("\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		n := 0
		err := eachLine(strings.NewReader(text), 3, func(l line) {
			n++
			again, err := parseLine([]byte(row(l.local, l.remote, l.local.Addr().Is6() || l.remote.Addr().Is6(), int(l.state), int(l.uid), int(l.inode&0x7fffffff))))
			l.inode &= 0x7fffffff
			if err != nil || again != l {
				t.Errorf("%+v is read as %+v, %v", l, again, err)
			}
		})
		if n > 3 || n == 3 && err == nil && strings.Count(text, "\n") > 4 {
			t.Errorf("%d lines, %v", n, err)
		}
	})
}

func TestParents(t *testing.T) {
	var chain []link
	for i := range 100 {
		chain = append(chain, link{pids: []int{9, 100 - i}, name: "sh"})
	}
	if got := parents(chain[:maxParents], 1); len(got) != maxParents || got[0].PID != 100 || got[maxParents-1].PID != 69 {
		t.Errorf("of few it is %v", got)
	}
	got := parents(chain, 1)
	if len(got) != maxParents || got[0].PID != 100 || got[maxParents-1].PID != 1 || got[maxParents-2].Name != "(69 more)" {
		t.Errorf("of many it is %v", got)
	}
}
