package host

import (
	"context"
	"net"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/verify"
	"github.com/sallyport/sallyport/verify/inside"
	"github.com/sallyport/sallyport/verify/probe"
)

func TestProbesAreDescribed(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range slices.Concat(Probes(), inside.Probes()) {
		if !regexp.MustCompile(`^[a-z0-9-]+$`).MatchString(p.Name) || seen[p.Name] {
			t.Errorf("name %q", p.Name)
		}
		seen[p.Name] = true
	}
	for _, p := range Probes() {
		if p.Group != probe.Host || p.Why == "" || p.Source == "" || p.Try == nil || p.Own == nil || strings.Contains(p.Why+p.Source, "\n") {
			t.Errorf("%s: %+v", p.Name, p)
		}
	}
}

// Every probe sees success where there is one.
func TestEachReachesItsOwn(t *testing.T) {
	if !inChild(t) {
		return
	}
	for _, p := range Probes() {
		ctx, cancel := context.WithCancel(t.Context())
		to := target(probe.OwnListener)
		if err := p.Own(ctx, &to); err != nil {
			t.Errorf("%s: %v", p.Name, err)
		}
		if f := p.Try(ctx, to); f.Outcome != verify.Reached {
			t.Errorf("%s: %+v", p.Name, f)
		}
		cancel()
	}
}

// host is a target of a sandbox, with everything that there may be.
func host() probe.Target {
	to := target(probe.Sandbox)
	to.Other4 = netip.MustParseAddr("198.51.100.20")
	to.OtherModel = netip.MustParseAddrPort("198.51.100.21:8000")
	to.Second = netip.MustParseAddrPort("198.51.100.22:8000")
	to.Host = probe.HostTarget{Addrs: []netip.Addr{netip.MustParseAddr("198.51.100.23"), netip.MustParseAddr("2001:db8::23")},
		TCP: []uint16{40000, 22, 53}, UDP: []uint16{40001, 53, 123}, TrapTCP: 40000, TrapUDP: 40001,
		Sockets: []string{"/run/sallyport-none/control.sock"}, Listeners: []string{"127.0.0.1:9090"}, PID: 1 << 21, Started: 1}
	return to
}

// Where there is no way out, each is stopped with an errno, or says what it lacks.
func TestEachIsStoppedWithoutANetwork(t *testing.T) {
	if !inChild(t) {
		return
	}
	if err := addAddress(netip.AddrFrom4([4]byte{127, 0, 0, 1})); err != nil { // lo alone
		t.Fatal(err)
	}
	to := host()
	for _, p := range Probes() {
		f := p.Try(t.Context(), to)
		switch {
		case f.Outcome == verify.StoppedInside && f.Errno != "":
		case p.Name == hostsNames && f.Absent:
		case p.Name == engineNames && f.Outcome == verify.Unproven: // no name server: nobody can say
		case p.Name == otherICMP && f.Outcome == verify.Blocked: // the record tells
		default:
			t.Errorf("%s: %+v", p.Name, f)
		}
	}
}

// What is refused must be in the record, each pair of address and port by itself.
func TestEveryRefusalIsWanted(t *testing.T) {
	if !inChild(t) {
		return
	}
	to := host()
	to.Host.Addrs = to.Host.Addrs[:1]
	for _, addr := range []netip.Addr{to.Other4, to.OtherModel.Addr(), to.Second.Addr(), to.Host.Addrs[0], netip.MustParseAddr("172.17.0.1")} {
		if err := addAddress(addr); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string][]probe.Event{
		portsTCP: {{Layer: audit.LayerIntercept, Proto: "tcp", Dst: "198.51.100.23:40000"}, {Layer: audit.LayerIntercept, Proto: "tcp", Dst: "198.51.100.23:22"}},
		portsUDP: {{Layer: audit.LayerPacket, Proto: "udp", Dst: "198.51.100.23:40001"}, {Layer: audit.LayerPacket, Proto: "udp", Dst: "198.51.100.23:123"}},
		otherTCP: {{Layer: audit.LayerIntercept, Proto: "tcp", Dst: "198.51.100.20:8000"}, {Layer: audit.LayerIntercept, Proto: "tcp", Dst: "198.51.100.20:22"},
			{Layer: audit.LayerIntercept, Proto: "tcp", Dst: "198.51.100.20:47124"}},
		otherUDP: {{Layer: audit.LayerPacket, Proto: "udp", Dst: "198.51.100.20:8000"}, {Layer: audit.LayerPacket, Proto: "udp", Dst: "198.51.100.20:22"},
			{Layer: audit.LayerPacket, Proto: "udp", Dst: "198.51.100.20:47124"}},
		otherModel: {{Layer: audit.LayerIntercept, Proto: "tcp", Dst: "198.51.100.21:8000"}},
		secondNet:  {{Layer: audit.LayerIntercept, Proto: "tcp", Dst: "198.51.100.22:8000"}},
		ownPages:   {{Layer: audit.LayerIntercept, Proto: "tcp", Dst: "198.51.100.23:9090"}},
	} {
		if f := find(t, name).Try(t.Context(), to); f.Outcome != verify.Blocked || !slices.Equal(f.Events, want) {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

func find(t *testing.T, name string) probe.Probe {
	t.Helper()
	list := Probes()
	i := slices.IndexFunc(list, func(p probe.Probe) bool { return p.Name == name })
	if i < 0 {
		t.Fatalf("no probe %s", name)
	}
	return list[i]
}

// A control does not go near what the user's own programs listen on.
func TestControlsAimAtTheTrapsAlone(t *testing.T) {
	if !inChild(t) {
		return
	}
	to := host()
	to.Host.Addrs = to.Host.Addrs[:1]
	if err := addAddress(to.Host.Addrs[0]); err != nil {
		t.Fatal(err)
	}
	for _, setting := range []probe.Setting{probe.Ordinary, probe.Unconfined} {
		to.Setting = setting
		for name, port := range map[string]string{portsTCP: ":40000", portsUDP: ":40001", engineTCP: ":40000", ownPages: ":40000"} {
			f := find(t, name).Try(t.Context(), to)
			if len(f.Events) != 1 || !strings.HasSuffix(f.Events[0].Dst, port) {
				t.Errorf("%s: %s: %+v", setting, name, f)
			}
		}
		for _, name := range []string{bridgePeers, engineNames} {
			if f := find(t, name).Try(t.Context(), to); !f.Absent {
				t.Errorf("%s: %s: %+v", setting, name, f)
			}
		}
	}
}

// The wall accepts, and then answers with a marked 403 or a reset.
func TestAnswers(t *testing.T) {
	if !inChild(t) {
		return
	}
	at := netip.MustParseAddr("198.51.100.30")
	if err := addAddress(at); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, answer string
		want         verify.Outcome
	}{
		{"a greeting", probe.Greeting, verify.Reached},
		{"a service that says little", "\x00", verify.Reached},
		{"another's refusal", "HTTP/1.1 403 Forbidden\r\n\r\n", verify.Reached},
		{"the gateway's", "HTTP/1.1 403 Forbidden\r\nX-Sallyport-Reason: no\r\n\r\n", verify.Blocked},
		{"a reset", "reset", verify.Blocked},
		{"a silent end", "", verify.Unproven},
	} {
		l, err := net.Listen("tcp", netip.AddrPortFrom(at, 0).String())
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan struct{})
		go func() { defer close(served); answerOne(l, c.answer) }()
		p := pair{"tcp", l.Addr().(*net.TCPAddr).AddrPort()}
		if f := p.try(t.Context(), target(probe.Sandbox), "test"); f.Outcome != c.want || (c.want == verify.Blocked) != (len(f.Events) == 1) {
			t.Errorf("%s: %+v", c.name, f)
		}
		<-served
	}
}

func answerOne(l net.Listener, answer string) {
	defer l.Close()
	conn, err := l.Accept()
	if err != nil {
		return
	}
	defer conn.Close()
	said := make([]byte, 512)
	if n, err := conn.Read(said); err != nil || string(said[:n]) != "sallyport 0a1b2c3d test/sandbox\n" {
		return
	}
	if answer == "reset" {
		_ = conn.(*net.TCPConn).SetLinger(0)
		return
	}
	_, _ = conn.Write([]byte(answer))
}

func TestPairs(t *testing.T) {
	addrs := []netip.Addr{netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("2001:db8::1")}
	if list := pairs("udp", addrs, []uint16{53, 0, 67}); len(list) != 2 || list[0].to.Port() != 67 || list[1].to.String() != "[2001:db8::1]:67" {
		t.Errorf("got %v", list)
	}
	many := make([]uint16, 1000)
	for i := range many {
		many[i] = uint16(1000 + i)
	}
	if n := len(pairs("tcp", addrs, many)); n != maxPairs {
		t.Errorf("%d pairs", n)
	}
	if e := (pair{"tcp", netip.MustParseAddrPort("198.51.100.1:15001")}).event(); e.Layer != audit.LayerPacket {
		t.Errorf("the wall's own port: %+v", e)
	}
}

func TestTheWorstCounts(t *testing.T) {
	blocked := probe.Blocked("b", probe.Event{Dst: "198.51.100.1:1"})
	other := probe.Blocked("c", probe.Event{Dst: "198.51.100.1:2"})
	stopped := probe.Finding{Outcome: verify.StoppedInside, Errno: "ENETUNREACH"}
	for _, c := range []struct {
		name   string
		list   []probe.Finding
		want   verify.Outcome
		events int
	}{
		{"none", nil, verify.Unproven, 0},
		{"blocked by itself", []probe.Finding{blocked}, verify.Blocked, 1},
		{"blocked, and no IPv6", []probe.Finding{stopped, blocked, other}, verify.Blocked, 2},
		{"stopped", []probe.Finding{stopped, stopped}, verify.StoppedInside, 0},
		{"one that nobody can say of", []probe.Finding{blocked, probe.Unproven("?"), stopped}, verify.Unproven, 1},
		{"one that got through", []probe.Finding{blocked, probe.Unproven("?"), probe.Reached("!"), stopped}, verify.Reached, 1},
	} {
		f := worst(c.list)
		if f.Outcome != c.want || c.want == verify.Blocked && len(f.Events) != c.events {
			t.Errorf("%s: %+v", c.name, f)
		}
	}
}

func TestVariables(t *testing.T) {
	if !inChild(t) {
		return
	}
	p := find(t, "secrets-in-environment")
	if f := p.Try(t.Context(), probe.Target{}); f.Outcome != verify.StoppedInside || f.Errno != "ENOENT" {
		t.Errorf("none: %+v", f)
	}
	t.Setenv("SSH_AUTH_SOCK", "/run/agent.sock")
	if f := p.Try(t.Context(), probe.Target{}); f.Outcome != verify.Reached || strings.Contains(f.Detail, "agent.sock") {
		t.Errorf("one, and never its value: %+v", f)
	}
}

func TestHostsFile(t *testing.T) {
	text := "127.0.0.1 localhost\n::1 ip6-localhost\nfe00::0 ip6-localnet\nff02::1 ip6-allnodes\n# 198.51.100.9 no\n" +
		"198.51.100.1 own-name\n198.51.100.7 host.docker.internal # the host\n198.51.100.7 again\n198.51.100.8\nnonsense name\n"
	got := others(addresses([]byte(text)), []netip.Addr{netip.MustParseAddr("198.51.100.1")})
	if !slices.Equal(got, []netip.Addr{netip.MustParseAddr("198.51.100.7")}) {
		t.Errorf("got %v", got)
	}
}

func TestProcessOfTheHost(t *testing.T) {
	to := target(probe.Sandbox)
	to.Host.PID, to.Host.Started = os.Getpid(), 1
	if f := seeProcess(t.Context(), to); f.Outcome != verify.StoppedInside || f.Errno != "ESRCH" {
		t.Errorf("another of that number: %+v", f)
	}
	if f := seeProcess(t.Context(), target(probe.Sandbox)); !f.Absent {
		t.Errorf("none: %+v", f)
	}
}
