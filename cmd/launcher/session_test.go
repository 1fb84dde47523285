package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/config"
	"github.com/sallyport/sallyport/containers"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/verify"
	"go.uber.org/goleak"
)

func TestLauncherIsTheSameProcess(t *testing.T) {
	id, err := launcherID(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	pid, start, _ := strings.Cut(id, ":")
	if pid != fmt.Sprint(os.Getpid()) || start == "" || start == "0" {
		t.Errorf("%q", id)
	}
	for label, want := range map[string]bool{
		id: true, id + "0": false, pid + ":1": false, pid: false, "": false, ":": false, "0:0": false, "-1:5": false, "1:": false, "x:y": false,
		"999999999:5": false, id + ":5": false, " " + id: false, folderName(id): false, launcherOfFolder(folderName(id)): true,
	} {
		if got := launcherAlive(label); got != want {
			t.Errorf("%q: %t", label, got)
		}
	}
}

func TestStartTime(t *testing.T) {
	rest := " S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20 21"
	for _, name := range []string{"launcher", "a b", ") S 1 2 3", "(((", "\n", ""} {
		if got, err := startTime("7 (" + name + ")" + rest); err != nil || got != "4242" {
			t.Errorf("%q: %q, %v", name, got, err)
		}
	}
	for _, stat := range []string{"", "7 (x)", "7 (x) S 1 2", "7"} {
		if got, err := startTime(stat); err == nil {
			t.Errorf("%q: %q", stat, got)
		}
	}
}

func TestFindModel(t *testing.T) {
	at := func(path string) config.Endpoint { return config.Endpoint{Network: "unix", Address: path} }
	cfg := &config.Config{
		Hosts: []config.Host{{Name: "strix", SSH: "me@strix.example"}, {Name: "bare"}},
		Models: []config.Model{
			{Name: "gpt-oss", Aliases: []string{"oss"}, Host: "strix", Endpoint: at("/m.sock"), Token: "secret"},
			{Name: "mine", Model: "Me/Mine-7B", Host: "bare", Endpoint: at("/m.sock")},
			{Name: "local", Endpoint: at("/m.sock")},
			{Name: "two", Endpoint: at("/m.sock"), Hosts: []string{"bare", "strix"}},
			{Name: "qwen3-next", Hosts: []string{"strix", "bare"}, Context: 4096, IdleStop: config.NeverIdle},
			{Name: "Own", Engine: config.EngineVLLM, Model: "org/own", IdleStop: config.Idle(time.Hour)},
			{Name: "nowhere"},
			{Name: "no-weights", Engine: config.EngineLlamaCpp},
		},
	}
	const nobodyKnows = "is none that is known, so it has to be said what serves it; hint: "
	for _, test := range []struct{ name, is, served, at, err string }{
		{"gpt-oss", "gpt-oss", "openai/gpt-oss-120b", "strix (unix:///m.sock)", ""},
		{"OSS", "gpt-oss", "openai/gpt-oss-120b", "strix (unix:///m.sock)", ""},
		{"gpt-oss-120b", "gpt-oss", "openai/gpt-oss-120b", "strix (unix:///m.sock)", ""}, // the same model by a name of ours
		{"mine", "mine", "Me/Mine-7B", "bare (unix:///m.sock)", ""},
		{"local", "local", "", "unix:///m.sock", ""},
		{"two", "two", "", "bare (unix:///m.sock) strix (unix:///m.sock)", ""},
		{"demo", "demo", "demo", "unix://", ""},
		{"qwen3-next", "qwen3-next", "", "strix (unix://)", ""},
		{"own", "Own", "", "unix://", ""},
		{"gpt-oss-20b", "gpt-oss-20b", "", "unix://", ""}, // known, and not in the configuration
		{"nowhere", "", "", "", nobodyKnows},
		{"no-weights", "", "", "", nobodyKnows},
		{"other", "", "", "", `there is no model "other"; hint: demo, gpt-oss, mine, local, two, qwen3-next, Own, nowhere, no-weights`},
		{"", "", "", "", "there is no model"},
	} {
		m, err := findModel(cfg, test.name)
		if test.err != "" {
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%s: %v", test.name, err)
			}
			continue
		}
		var places []string
		for _, p := range m.Upstream.Places() {
			places = append(places, p.String())
		}
		if err != nil || m.Name != test.is || test.served != "" && m.Upstream.Name != test.served || strings.Join(places, " ") != test.at {
			t.Errorf("%s: %+v, %v", test.name, m, err)
		}
		if controlled := m.Endpoint == ""; m.Upstream.Controlled != controlled || m.ours() != (controlled && test.is != "demo") {
			t.Errorf("%s: controlled %t, ours %t", test.name, m.Upstream.Controlled, m.ours())
		}
	}
}

// A server of ours has the settings of the configuration, and a name that folders
// and containers can have.
func TestOwnModels(t *testing.T) {
	cfg := &config.Config{Hosts: []config.Host{{Name: "strix"}}, Models: []config.Model{
		{Name: "Qwen3-Next", Host: "strix", Context: 4096, IdleStop: config.NeverIdle, Served: "q", MaxSeqs: 3, GPUMemory: 0.5, Args: []string{"--x"}},
		{Name: "own", Engine: config.EngineVLLM, Model: "org/own", IdleStop: config.Idle(time.Hour), Pull: config.PullDirect},
	}}
	q, err := findModel(cfg, "qwen3-next")
	if err != nil || q.server() != "qwen3-next" || q.MaxContext != 4096 || q.IdleStop != 0 || q.MaxSeqs != 3 || q.GPUMemory != 0.5 || q.Served != "q" ||
		!slices.Contains(q.Args, "--x") || q.Weights().Repo != "dazipe/Qwen3-Next-80B-A3B-Instruct-GPTQ-Int4A16" || q.pull != config.PullProxy {
		t.Errorf("%+v, %v", q, err)
	}
	own, err := findModel(cfg, "own")
	if err != nil || own.IdleStop != time.Hour || own.Weights().Repo != "org/own" || own.pull != config.PullDirect {
		t.Errorf("%+v, %v", own, err)
	}
	var names []string
	for _, m := range allModels(cfg) {
		names = append(names, m.Name)
	}
	// The known qwen3-next-80b is the configured one.
	if got := strings.Join(names, " "); got != "demo Qwen3-Next own gpt-oss-120b gpt-oss-20b" {
		t.Error(got)
	}
	for _, test := range []struct{ model, flag, host, err string }{
		{"own", "", "", ""},
		{"own", "local", "", ""},
		{"own", "strix", "", "is not served on strix, but on this machine"},
		{"qwen3-next", "", "strix", ""},
		{"qwen3-next", "strix", "strix", ""},
		{"qwen3-next", "Local", "", "is not served on this machine, but on strix"},
		{"gpt-oss-20b", "strix", "strix", ""}, // nothing says where it belongs
	} {
		m, err := findModel(cfg, test.model)
		if err != nil {
			t.Fatal(err)
		}
		host, err := pickHost(m, test.flag)
		if host != test.host && test.err == "" || (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("%+v: %q, %v", test, host, err)
		}
	}
}

func TestExitCodes(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, test := range []struct {
		ctx  context.Context
		err  error
		want int
	}{
		{t.Context(), nil, 0},
		{t.Context(), errors.New("x"), 1},
		{t.Context(), &exitError{code: 7}, 7},
		{t.Context(), fmt.Errorf("x: %w", &exitError{7, errors.New("y")}), 7},
		{t.Context(), errors.Join(&exitError{7, errors.New("y")}, errors.New("cleaning up")), 7},
		{t.Context(), usage(errors.New("x")), 2},
		{t.Context(), fmt.Errorf("x: %w", &containers.UnsupportedError{}), 2},
		{t.Context(), &config.Error{}, 2},
		{ended, errors.New("context canceled"), 130},
		{ended, errInterrupted, 130},
		{ended, &exitError{code: 5}, 5},
	} {
		if got := exitCode(test.ctx, test.err); got != test.want {
			t.Errorf("%v: %d, want %d", test.err, got, test.want)
		}
	}
}

func TestMatches(t *testing.T) {
	event := func(layer audit.Layer, proto string, set func(*audit.Event)) audit.Event {
		e := audit.Event{Layer: layer, Proto: proto, Verdict: policy.Deny.String()}
		set(&e)
		return e
	}
	dns := func(proto, dst string) audit.Event {
		return event(audit.LayerDNS, proto, func(e *audit.Event) { e.Host, e.Dst = "x.example.", dst })
	}
	udp := event(audit.LayerPacket, "udp", func(e *audit.Event) { e.Dst = "203.0.113.1:443" })
	icmp := event(audit.LayerPacket, "icmp", func(e *audit.Event) { e.Dst = "203.0.113.1" })
	tcp := event(audit.LayerIntercept, "tcp", func(e *audit.Event) { e.Dst = "[2001:db8::1]:443" })
	connect := event(audit.LayerProxy, "tcp", func(e *audit.Event) { e.Method, e.Host, e.Port = "CONNECT", "x.example", 443 })
	http := event(audit.LayerIntercept, "tcp", func(e *audit.Event) { e.Host, e.Path = "x.example", "/p" })
	for _, test := range []struct {
		attempt verify.Attempt
		event   audit.Event
		want    bool
	}{
		{verify.Attempt{Kind: "dns", Target: "x.example"}, dns("udp", ""), true},
		{verify.Attempt{Kind: "dns", Target: "x.example", TCP: true}, dns("udp", ""), false},
		{verify.Attempt{Kind: "dns", Target: "x.example", TCP: true}, dns("tcp", ""), true},
		{verify.Attempt{Kind: "dns", Target: "y.example"}, dns("udp", ""), false},
		{verify.Attempt{Kind: "dns", Target: "x.example", Via: "203.0.113.53:53"}, dns("udp", "203.0.113.53:53"), true},
		{verify.Attempt{Kind: "dns", Target: "x.example", Via: "203.0.113.53:53"}, dns("udp", "203.0.113.54:53"), false},
		{verify.Attempt{Kind: "udp", Target: "203.0.113.1:443"}, udp, true},
		{verify.Attempt{Kind: "udp", Target: "203.0.113.1:444"}, udp, false},
		{verify.Attempt{Kind: "tcp", Target: "203.0.113.1:443"}, udp, false},
		{verify.Attempt{Kind: "icmp", Target: "203.0.113.1"}, icmp, true},
		{verify.Attempt{Kind: "icmpv6", Target: "203.0.113.1"}, icmp, false},
		{verify.Attempt{Kind: "tcp", Target: "[2001:db8:0::1]:443"}, tcp, true},
		{verify.Attempt{Kind: "connect", Target: "x.example:443"}, connect, true},
		{verify.Attempt{Kind: "connect", Target: "x.example:80"}, connect, false},
		{verify.Attempt{Kind: "http", Target: "http://x.example/p"}, http, true},
		{verify.Attempt{Kind: "http", Target: "http://x.example/q"}, http, false},
		{verify.Attempt{Kind: "unheard of"}, udp, false},
	} {
		if got := matches(test.attempt, test.event); got != test.want {
			t.Errorf("%+v and %+v: %t", test.attempt, test.event, got)
		}
		allowed := test.event
		allowed.Verdict = policy.Allow.String()
		if isRecorded(test.attempt, []audit.Event{allowed}) {
			t.Errorf("%+v: what was let through counts as refused", test.attempt)
		}
	}
}

func TestProofReader(t *testing.T) {
	defer goleak.VerifyNone(t)
	var line strings.Builder
	if err := verify.WriteProof(&line, []verify.Result{{Name: "a", OK: true}}); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, in, out string
		ok            bool
	}{
		{"a proof", line.String(), "", true},
		{"and output", line.String() + "hello\n\x00\xff", "hello\n\x00\xff", true},
		{"nothing", "", "", false},
		{"other output", "exec format error\n", "", false},
		{"no end", strings.TrimRight(line.String(), "\r\n"), "", false},
		{"too long", strings.Repeat("x", 1<<20), "", false},
		{"output first", "hello\n" + line.String(), "", false},
	} {
		for _, step := range []int{1 << 20, 1, 7} {
			if len(test.in) > 1<<16 && step < 1<<20 {
				continue
			}
			var out strings.Builder
			p, ended := newProofReader(&out)
			var wg sync.WaitGroup
			wg.Go(func() {
				defer p.end()
				for b := []byte(test.in); len(b) > 0; b = b[min(step, len(b)):] {
					if _, err := p.Write(b[:min(step, len(b))]); err != nil {
						return
					}
				}
			})
			result := <-p.results
			<-ended
			wg.Wait()
			if (result.err == nil) != test.ok || out.String() != test.out {
				t.Errorf("%s by %d: %v, output %q", test.name, step, result.err, out.String())
			}
		}
	}
}

func TestProofThatFailed(t *testing.T) {
	s := &session{}
	err := s.checkProof(t.Context(), proofResult{results: []verify.Result{{Name: "good", OK: true}, {Name: "route", Detail: "bad\x1b[2J"}}})
	if err == nil || !strings.Contains(err.Error(), "route: bad") || strings.Contains(err.Error(), "\x1b") || strings.Contains(err.Error(), "good") {
		t.Errorf("%v", err)
	}
	if err := s.checkProof(t.Context(), proofResult{}); err == nil {
		t.Error("a proof of nothing was accepted")
	}
}

func TestInput(t *testing.T) {
	defer goleak.VerifyNone(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	in := newInput(r)
	read := func(from io.Reader, n int) string {
		t.Helper()
		b := make([]byte, n)
		if _, err := io.ReadFull(from, b); err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	early := make(chan struct{})
	before := in.reader(early)
	go close(early)
	if n, err := before.Read(make([]byte, 8)); n != 0 || err == nil {
		t.Error("something was read before the go-ahead")
	}
	stop := make(chan struct{})
	first := in.reader(stop)
	if _, err := w.WriteString("typed early"); err != nil {
		t.Fatal(err)
	}
	in.begin()
	if got := read(first, len(verify.GoAhead)+11); got != verify.GoAhead+"typed early" {
		t.Errorf("%q", got)
	}
	// The session ends; what is typed meanwhile is the next one's, which gets no second word.
	close(stop)
	if _, err := w.WriteString("for the next"); err != nil {
		t.Fatal(err)
	}
	in.keep([]byte("kept, "))
	if n, err := first.Read(make([]byte, 64)); n != 0 || err == nil {
		t.Error("a session that has ended reads on")
	}
	again := in.reader(make(chan struct{}))
	if got := read(again, 18); got != "kept, for the next" {
		t.Errorf("%q", got)
	}
	w.Close()
	if n, err := again.Read(make([]byte, 8)); n != 0 || err != io.EOF {
		t.Errorf("at the end: %d, %v", n, err)
	}
	in.end()
	in.keep([]byte(strings.Repeat("x", 2*maxKept)))
	if len(in.takeKept()) != maxKept {
		t.Error("what is kept has no bound")
	}
}

func TestInputEndsWithTheSession(t *testing.T) {
	defer goleak.VerifyNone(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	in := newInput(r)
	in.begin()
	if _, err := w.WriteString("nobody reads this"); err != nil {
		t.Fatal(err)
	}
	in.end()
	w.Close()
	for range in.chunks { // closed by its goroutine
	}
}

func TestOutputThatIsBroken(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	o := newOutput(w)
	if _, err := o.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	select {
	case <-o.broken:
		t.Error("broken too soon")
	default:
	}
	r.Close()
	w.Close()
	for range 2 {
		if _, err := o.Write([]byte("x")); err == nil {
			t.Error("no error")
		}
	}
	<-o.broken
}

func TestCleanUpIsInReverse(t *testing.T) {
	var order []string
	s := &session{}
	for _, name := range []string{"holder", "registration", "agent"} {
		s.undo = append(s.undo, func(context.Context) error { order = append(order, name); return nil })
	}
	if err := s.cleanUp(t.Context()); err != nil || strings.Join(order, " ") != "agent registration holder" {
		t.Errorf("%v, %v", order, err)
	}
}

func TestTargetCounts(t *testing.T) {
	defer goleak.VerifyNone(t)
	target, stop, err := startTarget(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if addr := netip.MustParseAddrPort(target.Address()); addr.Addr().IsUnspecified() {
		t.Errorf("it listens on %s", addr)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}
