//go:build lab

package e2e_test

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/lab"
)

// shell is a sandbox that stays open for what the test does in it.
type shell struct {
	*user
	id     string
	screen *screen
}

func openShell(u *user) *shell {
	u.Helper()
	s := u.terminal("launcher", "shell", "gpt-oss")
	s.expect(`\$ `)
	return &shell{user: u, id: u.sandboxID(), screen: s}
}

// attempt is one way to try to get out, and the event that it must leave.
type attempt struct {
	probe string // arguments of gateway probe
	layer audit.Layer
	proto string
	dst   string // empty: whatever
	host  string // empty: whatever
}

// attempts are made by the agent's user. The host's addresses are those at which
// a container would find it, other is that of another sandbox.
func attempts(hosts []string, other string) []attempt {
	var list []attempt
	tcp := func(address string, ports ...int) {
		for _, port := range ports {
			to := netip.AddrPortFrom(netip.MustParseAddr(address), uint16(port)).String()
			list = append(list, attempt{"tcp " + to, audit.LayerIntercept, "tcp", to, ""})
		}
	}
	tcp(lab.Web, 22, 80, 443, 8443, 25, 853)
	tcp(lab.Web6, 22, 80, 443, 8443)
	tcp("169.254.169.254", 80)
	tcp("fd00:ec2::254", 80)
	tcp(other, 8000)
	for _, host := range hosts {
		tcp(host, trapPorts...)
	}
	for _, to := range []string{lab.Web + ":123", lab.Web + ":443", lab.Web + ":3478", lab.Web + ":4433", "[" + lab.Web6 + "]:443", "224.0.0.251:5353", "255.255.255.255:67"} {
		list = append(list, attempt{"udp " + to, audit.LayerPacket, "udp", to, ""})
	}
	list = append(list,
		attempt{"icmp " + lab.Web, audit.LayerPacket, "icmp", lab.Web, ""},
		attempt{"icmpv6 " + lab.Web6, audit.LayerPacket, "icmpv6", lab.Web6, ""},
		attempt{"dns sinkhole.exfil.example", audit.LayerDNS, "udp", "", "sinkhole.exfil.example"},
		attempt{"dns public.exfil.example via=" + lab.DNS + ":53", audit.LayerDNS, "udp", lab.DNS + ":53", "public.exfil.example"},
		attempt{"dns public6.exfil.example via=[" + lab.DNS6 + "]:53", audit.LayerDNS, "udp", "[" + lab.DNS6 + "]:53", "public6.exfil.example"},
		attempt{"dns overtcp.exfil.example over=tcp via=" + lab.DNS + ":53", audit.LayerDNS, "tcp", lab.DNS + ":53", "overtcp.exfil.example"},
		attempt{"connect exfil.example:443", audit.LayerProxy, "tcp", "", "exfil.example"},
		attempt{"connect " + lab.Web + ":443", audit.LayerProxy, "tcp", "", lab.Web},
		attempt{"http http://" + lab.Web + "/exfil", audit.LayerIntercept, "tcp", lab.Web + ":80", lab.Web},
	)
	return list
}

// trapPorts are listened on at every address of the host, for TCP and UDP.
var trapPorts = []int{2222, 8080}

func TestNothingGetsOut(t *testing.T) {
	onBoth(t, func(t *testing.T, l *lab.Lab) {
		caught := l.Laptop.Trap(t, trapPorts...)
		u := setUp(t, l, "unix://"+standIn(t, l, toolTurns))
		before := l.Before(t)
		sh := openShell(u)
		other := u.terminal("launcher", "shell", "demo", "--", "-c", `sed -n "s/nameserver /gate=/p" /etc/resolv.conf; read wait`)
		other.expect(`gate=[0-9.]+\n`)
		gate := regexp.MustCompile(`gate=([0-9.]+)\n`).FindStringSubmatch(other.Text())[1]
		list := attempts([]string{lab.LaptopLAN, "172.17.0.1"}, netip.MustParseAddr(gate).Prev().String())
		var script strings.Builder
		for _, a := range list {
			fmt.Fprintf(&script, "/run/sallyport/gateway probe %s\n", a.probe)
		}
		// Docker's own resolver is at the container's loopback: no packet leaves.
		script.WriteString("/run/sallyport/gateway probe dns loopback.exfil.example via=127.0.0.11:53\n")
		u.write(u.project+"/escape.sh", script.String())
		sh.screen.send("sh escape.sh; echo DO''NE\n")
		sh.screen.expect(`DONE`)
		text := sh.screen.Text()
		if strings.Contains(text, "\nreached") || strings.Contains(text, "\nunproven") {
			t.Errorf("something got out:\n%s", text)
		}
		events := u.events(sh.id)
		for _, a := range list {
			if !recorded(a, events) && !strings.Contains(text, "stopped-inside "+a.probe) {
				t.Errorf("no event, and no error inside: %s", a.probe)
			}
		}
		if n := caught(); n > 0 {
			t.Errorf("%d connections or datagrams reached the host", n)
		}
		l.NoLeak(t, before)
		crafted(sh)
		l.NoLeak(t, before)
		other.send("\n")
		other.end()
		sh.screen.send("exit\n")
		sh.screen.end()
	})
}

// segments sends TCP segments with every odd set of flags, from the sandbox's own
// address and from two that are not, each to a port of its own.
const segments = `
use Socket; use strict;
my ($own, $dst) = @ARGV;
socket(my $s, AF_INET, SOCK_RAW, 255) or die "socket: $!"; # IPPROTO_RAW: with the IP header
sub sum { my $n = 0; $n += $_ for unpack "n*", $_[0] . "\0" x (length($_[0]) % 2); $n = ($n >> 16) + ($n & 0xffff) while $n >> 16; ~$n & 0xffff }
my $port = 7000;
for my $src ($own, "203.0.113.77", "10.213.0.40") {
	for my $flags (0x02, 0x04, 0x12, 0x03, 0x00) {
		my ($from, $to) = (inet_aton($src), inet_aton($dst));
		my $tcp = pack "nnNNCCnnn", 40000, ++$port, 1, 0, 5 << 4, $flags, 1024, 0, 0;
		my $check = sum($from . $to . pack("CCn", 0, 6, length $tcp) . $tcp);
		substr($tcp, 16, 2) = pack "n", $check;
		my $ip = pack "CCnnnCCna4a4", 0x45, 0, 40, 1, 0, 64, 6, 0, $from, $to;
		send($s, $ip . $tcp, 0, sockaddr_in(0, $to)) or die "send: $!";
	}
}
print "sent\n";
`

// crafted has a root user with NET_RAW, in the same sandbox, send segments that
// no ordinary program sends: each leaves its event.
func crafted(sh *shell) {
	sh.Helper()
	own, err := sh.lab.Laptop.Docker(sh.ctx, "exec", "sallyport-agent-"+sh.id, "sed", "-n", "s/nameserver //p", "/etc/resolv.conf")
	if err != nil {
		sh.Fatal(err)
	}
	address := netip.MustParseAddr(own).Prev().String()
	args := []string{"run", "--rm", "--network", "container:sallyport-holder-" + sh.id, "--user", "0", "--cap-add", "NET_RAW",
		"debian:12-slim", "perl", "-e", segments, address, lab.Web}
	if out, err := sh.lab.Laptop.Docker(sh.ctx, args...); err != nil || out != "sent" {
		sh.Fatalf("craft segments: %v %s", err, out)
	}
	rules := []string{"half-open", "stray", "stray", "stray", "stray"}
	for range 10 {
		rules = append(rules, "spoof")
	}
	sh.eventually("an event for each crafted segment", func() error {
		events := sh.events(sh.id)
		for i, rule := range rules {
			port := uint16(7001 + i)
			if !slices.ContainsFunc(events, func(e audit.Event) bool { return e.Port == port && e.Rule == rule && e.Layer == audit.LayerPacket }) {
				return fmt.Errorf("no %s event for port %d", rule, port)
			}
		}
		return nil
	})
}

func recorded(a attempt, events []audit.Event) bool {
	for _, e := range events {
		if e.Verdict == "denied" && e.Layer == a.layer && e.Proto == a.proto && (a.dst == "" || e.Dst == a.dst) && (a.host == "" || e.Host == a.host) {
			return true
		}
	}
	return false
}
