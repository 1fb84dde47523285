package forward

import (
	"context"
	"io"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/verify"
	"github.com/sallyport/sallyport/verify/forward/open"
	"github.com/sallyport/sallyport/verify/probe"
)

// quickly are the probes, with one that does not wait for the proxy's limit.
func quickly() []probe.Probe {
	list := Probes()
	list[len(list)-1] = slowly{connections: 4, drip: 10 * time.Millisecond, limit: 100 * time.Millisecond}.probe()
	return list
}

func TestProbesAreWhole(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range Probes() {
		if seen[p.Name] || !regexp.MustCompile(`^[a-z0-9-]+$`).MatchString(p.Name) {
			t.Errorf("name %q", p.Name)
		}
		seen[p.Name] = true
		if p.Why == "" || strings.Contains(p.Why, "\n") || p.Source == "" || p.Try == nil || p.Own == nil || p.Group != probe.Proxy && p.Group != probe.DNS {
			t.Errorf("%s is not whole", p.Name)
		}
	}
}

// Against its own control each attempt succeeds, so that a failure elsewhere counts.
func TestEachCanSucceed(t *testing.T) {
	if !inNetns(t) {
		return
	}
	for _, p := range quickly() {
		ctx, cancel := context.WithCancel(t.Context())
		target := probe.Target{Setting: probe.OwnListener, Run: "0badcafe"}
		if err := p.Own(ctx, &target); err != nil {
			t.Errorf("%s: %v", p.Name, err)
		}
		if f := p.Try(ctx, target); f.Outcome != verify.Reached {
			t.Errorf("%s: %s %s", p.Name, f.Outcome, f.Detail)
		}
		cancel()
	}
}

// answering is a target at all of whose addresses answer serves.
func answering(t *testing.T, serve func(net.Conn)) probe.Target {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	four, six, err := open.Somewhere(ctx)
	if err != nil {
		t.Fatal(err)
	}
	target := probe.Target{Setting: probe.Sandbox, Run: "0badcafe"}
	aimed(&target)
	target.Public4, target.Public6 = four, six
	for _, addr := range []netip.Addr{four, six} {
		for _, port := range []uint16{80, 443, 8443} {
			if _, err := open.Listen(ctx, netip.AddrPortFrom(addr, port), serve); err != nil {
				t.Fatal(err)
			}
		}
	}
	target.Proxy, err = open.Listen(ctx, netip.MustParseAddrPort("127.0.0.1:0"), serve)
	if err != nil {
		t.Fatal(err)
	}
	return target
}

// says answers whatever comes, and reads on so that its end is no reset.
func says(answer string) func(net.Conn) {
	return func(c net.Conn) {
		var first [1]byte
		if _, err := c.Read(first[:]); err != nil {
			return
		}
		if _, err := io.WriteString(c, answer); err != nil {
			return
		}
		_ = c.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, c)
	}
}

const ours = "HTTP/1.1 403 Forbidden\r\nContent-Length: 14\r\n\r\nsallyport: no\n"

func TestWhatARefusalIs(t *testing.T) {
	if !inNetns(t) {
		return
	}
	for _, c := range []struct {
		name, answer string
		want         verify.Outcome
	}{
		{"a refusal of the gateway's", ours, verify.Blocked},
		{"one that it gives in a header", "HTTP/1.1 403 Forbidden\r\nX-Sallyport-Reason: no\r\nContent-Length: 0\r\n\r\n", verify.Blocked},
		{"an HTTP server's of what it cannot read", "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n400 Bad Request", verify.Blocked},
		{"two refusals", ours + ours, verify.Blocked},
		{"somebody else's refusal", "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", verify.Unproven},
		{"somebody else's page that is not found", "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", verify.Unproven},
		{"an open tunnel", "HTTP/1.1 200 OK\r\n\r\n", verify.Reached},
		{"a refusal, then success", ours + "HTTP/1.1 204 No Content\r\n\r\n", verify.Reached},
		{"a refusal, then the origin", ours + probe.Greeting, verify.Reached},
		{"a refusal, then something", ours + "something", verify.Unproven},
		{"an origin without HTTP", probe.Greeting, verify.Reached},
		{"HTTP/2", "\x00\x00\x00\x04\x00\x00\x00\x00\x00", verify.Reached},
		{"another protocol", "HTTP/1.1 101 Switching Protocols\r\n\r\n", verify.Reached},
		{"a redirect", "HTTP/1.1 302 Found\r\nLocation: /sallyport\r\nContent-Length: 0\r\n\r\n", verify.Unproven},
		{"nothing final", "HTTP/1.1 100 Continue\r\n\r\n", verify.Unproven},
		{"no HTTP", "SSH-2.0-x\r\n", verify.Unproven},
		{"the gateway, unable", "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 10\r\n\r\nsallyport:", verify.Unproven},
		{"the end", "", verify.Blocked},
	} {
		t.Run(c.name, func(t *testing.T) { // what answers ends with it: its addresses may be chosen again
			list := quickly()
			for i, f := range tryAll(t, list[:len(list)-1], answering(t, says(c.answer))) {
				if f.Outcome != c.want || (len(f.Events) > 0) != (c.want == verify.Blocked) {
					t.Errorf("%s: %s %s", list[i].Name, f.Outcome, f.Detail)
				}
			}
		})
	}
}

// The proxy's 502 is a refusal where a name may not be where it points to, else it
// comes after the rules let the request pass.
func TestUnreachable(t *testing.T) {
	if !inNetns(t) {
		return
	}
	target := answering(t, says("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 10\r\n\r\nsallyport:"))
	list := quickly()
	for i, f := range tryAll(t, list[:len(list)-1], target) {
		want := verify.Unproven
		if strings.HasPrefix(list[i].Name, "rebind-") {
			want = verify.Blocked
		}
		if f.Outcome != want {
			t.Errorf("%s: %s %s", list[i].Name, f.Outcome, f.Detail)
		}
	}
}

// Who says nothing has refused nothing: it may be connecting.
func TestSilenceIsNoRefusal(t *testing.T) {
	if !inNetns(t) {
		return
	}
	target := answering(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	for _, p := range quickly() {
		if f := p.Try(ctx, target); f.Outcome != verify.Unproven || len(f.Events) > 0 {
			t.Errorf("%s: %s %s", p.Name, f.Outcome, f.Detail)
		}
	}
}

func TestSlowRequestsThatAreEnded(t *testing.T) {
	if !inNetns(t) {
		return
	}
	s := slowly{connections: 4, drip: 10 * time.Millisecond, limit: time.Minute}
	if f := s.try(t.Context(), answering(t, says(""))); f.Outcome != verify.Blocked || len(f.Events) != 1 {
		t.Errorf("%+v", f)
	}
	if f := s.try(t.Context(), answering(t, func(net.Conn) {})); f.Outcome != verify.Blocked {
		t.Errorf("reset at once: %+v", f)
	}
	closed := probe.Target{Setting: probe.Sandbox, Proxy: netip.MustParseAddrPort("127.0.0.1:1")}
	if f := s.try(t.Context(), closed); f.Outcome != verify.Unproven {
		t.Errorf("no proxy: %+v", f)
	}
}

// A control counts only if each of a probe's requests got through.
func TestMerge(t *testing.T) {
	reached, blocked, stopped := probe.Reached("r"), probe.Blocked("b", probe.Event{Host: "a"}), probe.Finding{Outcome: verify.StoppedInside, Errno: "EPERM"}
	unproven := probe.Unproven("u")
	for _, c := range []struct {
		findings []probe.Finding
		sandbox  verify.Outcome
		control  verify.Outcome
		events   int
	}{
		{nil, verify.Unproven, verify.Unproven, 0},
		{[]probe.Finding{reached, reached}, verify.Reached, verify.Reached, 0},
		{[]probe.Finding{blocked, reached}, verify.Reached, verify.Unproven, 0},
		{[]probe.Finding{unproven, reached}, verify.Reached, verify.Unproven, 0},
		{[]probe.Finding{blocked, blocked}, verify.Blocked, verify.Blocked, 2},
		{[]probe.Finding{blocked, unproven}, verify.Unproven, verify.Unproven, 0},
		{[]probe.Finding{blocked, stopped}, verify.Unproven, verify.Unproven, 0},
		{[]probe.Finding{stopped, stopped}, verify.StoppedInside, verify.StoppedInside, 0},
	} {
		for setting, want := range map[probe.Setting]verify.Outcome{probe.Sandbox: c.sandbox, probe.OwnListener: c.control} {
			f := merge(probe.Target{Setting: setting}, c.findings)
			if f.Outcome != want || len(f.Events) != c.events || (f.Errno != "") != (want == verify.StoppedInside) {
				t.Errorf("%v in %s: %+v", c.findings, setting, f)
			}
		}
	}
}

func TestNothingToAimAt(t *testing.T) {
	for _, p := range Probes() {
		if f := p.Try(t.Context(), probe.Target{Setting: probe.Ordinary}); !f.Absent || f.Outcome != verify.Unproven {
			t.Errorf("%s without a target: %+v", p.Name, f)
		}
	}
	bare := probe.Target{Setting: probe.Sandbox, Proxy: netip.MustParseAddrPort("127.0.0.1:1")}
	var absent []string
	for _, e := range append(aims(), rebinds()...) {
		if len(e.requests(bare)) == 0 {
			absent = append(absent, e.name)
		}
	}
	if want := "proxy-to-model proxy-to-host proxy-to-page proxy-to-sandbox rebind-connect rebind-http"; strings.Join(absent, " ") != want {
		t.Errorf("absent: %s", absent)
	}
}
