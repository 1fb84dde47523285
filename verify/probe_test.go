package verify

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// quick is the deadline where a test waits for silence.
const silence = 150 * time.Millisecond

// serve runs handle for each connection to a loopback listener.
func serve(t *testing.T, handle func(c *net.TCPConn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			handle(c.(*net.TCPConn))
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().String()
}

func says(text string) func(*net.TCPConn) {
	return func(c *net.TCPConn) {
		if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			_, _ = io.WriteString(c, text)
		}
	}
}

func resets(c *net.TCPConn) {
	_, _ = c.Read(make([]byte, 1))
	_ = c.SetLinger(0)
}

func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func hangs(t *testing.T) func(*net.TCPConn) {
	return func(c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) }
}

const wallSays = "HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\nsallyport: 203.0.113.1:80 is refused\n"

func TestTCPAndHTTPVerdicts(t *testing.T) {
	for _, c := range []struct {
		name   string
		peer   func(*net.TCPConn)
		want   Outcome
		detail string
	}{
		{"the wall's 403", says(wallSays), Blocked, `"sallyport: 203.0.113.1:80 is refused"`},
		{"the wall's reset", resets, Blocked, "connection reset"},
		{"somebody else's 403", says("HTTP/1.1 403 Forbidden\r\n\r\nno"), Reached, "403"},
		{"a web server", says("HTTP/1.1 200 OK\r\n\r\nsallyport"), Unproven, ""},
		{"a web server without our name", says("HTTP/1.1 200 OK\r\n\r\nhello"), Reached, "200"},
		{"an SSH banner", says("SSH-2.0-x\r\n"), Reached, "SSH-2.0"},
		{"one byte", says("x"), Reached, `"x"`},
		{"escape codes stay quoted", says("\x1b]52;c;aGk=\a"), Reached, `\x1b`},
		{"closed without a word", says(""), Unproven, "closed"},
		{"silence after accept", hangs(t), Unproven, "silence"},
	} {
		addr := serve(t, c.peer)
		for _, a := range []Attempt{{Kind: "tcp", Target: addr}, {Kind: "http", Target: "http://" + addr + "/x"}} {
			r := probe(t.Context(), a, limitFor(c.detail))
			if r.Outcome != c.want || !strings.Contains(r.Detail, c.detail) {
				t.Errorf("%s, %s: got %s", c.name, a.Kind, r)
			}
			if strings.ContainsFunc(r.String(), func(r rune) bool { return r < ' ' }) {
				t.Errorf("%s: control characters in %q", c.name, r)
			}
		}
	}
	if r := Probe(t.Context(), Attempt{Kind: "tcp", Target: closedPort(t)}); r.Outcome != Blocked {
		t.Errorf("refused: got %s", r)
	}
}

func limitFor(detail string) time.Duration {
	if detail == "silence" {
		return silence
	}
	return Deadline
}

func TestConnectVerdicts(t *testing.T) {
	for answer, want := range map[string]Outcome{
		"HTTP/1.1 200 Connection established\r\n\r\n":           Reached,
		"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n":   Blocked,
		"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n": Blocked,
		"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n": Unproven,
		"garbage": Unproven,
		"":        Unproven,
	} {
		a := Attempt{Kind: "connect", Target: "proof.example:443", Via: serve(t, says(answer))}
		if r := Probe(t.Context(), a); r.Outcome != want {
			t.Errorf("%q: got %s", answer, r)
		}
	}
	a := Attempt{Kind: "connect", Target: "proof.example:443", Via: closedPort(t)}
	if r := Probe(t.Context(), a); r.Outcome != Blocked {
		t.Errorf("no proxy: got %s", r)
	}
}

func TestUDPVerdicts(t *testing.T) {
	answer := make(chan bool, 1)
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 100)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			if <-answer {
				_, _ = c.WriteTo(buf[:n], from)
			}
		}
	}()
	a := Attempt{Kind: "udp", Target: c.LocalAddr().String()}
	answer <- true
	if r := Probe(t.Context(), a); r.Outcome != Reached {
		t.Errorf("answer: got %s", r)
	}
	answer <- false
	if r := probe(t.Context(), a, silence); r.Outcome != Blocked || !strings.Contains(r.Detail, "silent") {
		t.Errorf("silence: got %s", r)
	}
	c.Close()
	<-done
	if r := Probe(t.Context(), a); r.Outcome != Blocked || !strings.Contains(r.Detail, "refused") {
		t.Errorf("closed port: got %s", r)
	}
}

func TestProbeEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if r := Probe(ctx, Attempt{Kind: "tcp", Target: closedPort(t)}); r.Outcome == Reached {
		t.Errorf("got %s", r)
	}
	if r := Probe(t.Context(), Attempt{Kind: "nonsense"}); r.Outcome != Unproven || r.Outcome.Closed() {
		t.Errorf("an unknown kind counts as closed: %s", r)
	}
}

func TestParseAttempt(t *testing.T) {
	d := DefaultsFrom([]string{"A=b", "HTTPS_PROXY=http://10.213.0.0:3128", "NO_PROXY=x"}, []byte("# c\nnameserver 10.213.0.0\nnameserver ::1\n"))
	if d != (Defaults{Proxy: "10.213.0.0:3128", Resolver: "10.213.0.0:53"}) {
		t.Errorf("defaults %+v", d)
	}
	for _, line := range []string{
		"tcp 203.0.113.10:443", "tcp [2001:db8::1]:22", "udp 203.0.113.10:53", "icmp 203.0.113.10", "icmpv6 2001:db8::1", "raw 203.0.113.10", "raw 2001:db8::1",
		"dns a.example via=203.0.113.53:53 type=TXT over=tcp", "connect a.example:443 via=10.213.0.0:3128", "http http://203.0.113.10/x", "http http://a.example/ via=10.213.0.0:3128",
	} {
		a, err := ParseAttempt(strings.Fields(line), d)
		if err != nil || !slices.Equal(a.Args(), strings.Fields(line)) {
			t.Errorf("%s: got %q, %v", line, a.Args(), err)
		}
	}
	if a, err := ParseAttempt([]string{"dns", "a.example"}, d); err != nil || a.Via != d.Resolver {
		t.Errorf("got %+v, %v", a, err)
	}
	if a, err := ParseAttempt([]string{"connect", "a.example:1"}, d); err != nil || a.Via != d.Proxy {
		t.Errorf("got %+v, %v", a, err)
	}
	for _, line := range []string{
		"", "tcp", "tcp a.example:443", "tcp 203.0.113.10", "tcp 203.0.113.10:0", "icmp 2001:db8::1", "icmpv6 203.0.113.1", "icmp a.example", "udp x:1",
		"dns a..example", "dns a.example type=WHAT", "dns a.example via=name:53", "dns " + strings.Repeat("a", 64) + ".example", "dns " + strings.Repeat("a.", 130) + "example",
		"connect a.example", "connect a:1 via=x", "http https://203.0.113.1/", "http http://a.example/", "tcp 203.0.113.1:1 via=1.1.1.1:1", "what 1.1.1.1",
	} {
		if a, err := ParseAttempt(strings.Fields(line), d); err == nil {
			t.Errorf("%q was accepted: %+v", line, a)
		}
	}
	if _, err := ParseAttempt([]string{"connect", "a.example:1"}, Defaults{}); err == nil {
		t.Error("no proxy, no error")
	}
}

func TestWrite(t *testing.T) {
	r := Report{Attempt: Attempt{Kind: "tcp", Target: "203.0.113.1:1"}, Outcome: StoppedInside, Detail: "x"}
	var text, asJSON strings.Builder
	if err := Write(&text, false, r); err != nil || text.String() != "stopped-inside tcp 203.0.113.1:1: x\n" {
		t.Errorf("got %q, %v", text.String(), err)
	}
	if err := Write(&asJSON, true, r); err != nil {
		t.Fatal(err)
	}
	var back map[string]any
	if err := json.Unmarshal([]byte(asJSON.String()), &back); err != nil || back["outcome"] != "stopped-inside" || back["kind"] != "tcp" {
		t.Errorf("got %s, %v", asJSON.String(), err)
	}
}

func TestDemoAttemptsHarmNobody(t *testing.T) {
	d := Defaults{Proxy: "10.213.0.0:3128", Resolver: "10.213.0.0:53"}
	list := DemoAttempts("127.0.0.1:7")
	if len(list) != len(DemoAttempts(""))+2 {
		t.Error("the host's listener is not tried twice")
	}
	for _, a := range list {
		if _, err := ParseAttempt(a.Args(), d); err != nil {
			t.Errorf("%v: %v", a, err)
		}
		ok := func(s string) bool {
			return s == "" || s == "127.0.0.1:7" || strings.Contains(s, "203.0.113.") || strings.Contains(s, "2001:db8::") || strings.Contains(s, ".example")
		}
		if !ok(a.Target) || !ok(a.Via) {
			t.Errorf("%v aims at somebody", a.Args())
		}
	}
}
