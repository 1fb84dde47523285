package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/config"
	"github.com/sallyport/sallyport/control"
	standin "github.com/sallyport/sallyport/internal/hub"
	"github.com/sallyport/sallyport/machine"
	"github.com/sallyport/sallyport/models/hub"
	"github.com/sallyport/sallyport/models/pull"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/proxy"
)

// The way out of a pull is its own: a socket that only its user opens, a policy
// of its own, the pull's name in the record, and an end with the call.
func TestPullsWayOut(t *testing.T) {
	home := t.TempDir()
	paths := control.PathsFor(os.Getuid(), home, func(name string) string {
		return map[string]string{"XDG_RUNTIME_DIR": home}[name]
	})
	if err := paths.Make(); err != nil {
		t.Fatal(err)
	}
	g := &gateway{paths: paths, log: quiet, config: &config.Config{}}
	if err := g.openRecord(); err != nil {
		t.Fatal(err)
	}
	defer g.audit.Close()
	ctx, cancel := context.WithCancel(t.Context())
	ready, connections, ended := make(chan control.PullReady, 1), make(chan control.PullConnection, 8), make(chan error, 1)
	request := control.PullRequest{Name: "tiny", Hosts: []policy.Rule{{Host: "localhost", Ports: []uint16{443}}}}
	go func() {
		ended <- g.pull(ctx, request, func(e control.PullEvent) error {
			if e.Ready != nil {
				ready <- *e.Ready
			}
			if e.Connection != nil {
				connections <- *e.Connection
			}
			return nil
		})
	}()
	way := <-ready
	for path, want := range map[string]os.FileMode{way.Socket: 0o600 | os.ModeSocket, filepath.Dir(way.Socket): 0o700 | os.ModeDir} {
		if info, err := os.Stat(path); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	for target, want := range map[string]int{"hub.example:443": 403, "localhost:22": 403, "localhost:443": 502} {
		if got := connectTo(t, way.Socket, target); got != want {
			t.Errorf("%s: %d, want %d", target, got, want)
		}
		if c := <-connections; fmt.Sprintf("%s:%d", c.Host, c.Port) != target || c.Verdict != "denied" || c.Reason == "" {
			t.Errorf("told of %+v", c)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(paths.Pulls()); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	events, err := audit.ReadAll(t.Context(), paths.Audit(), audit.Filter{})
	if err != nil || len(events) != 3 {
		t.Errorf("%d events, %v", len(events), err)
	}
	for _, e := range events {
		if e.Sandbox != way.ID || e.Agent != "pull" || e.Model != "tiny" || e.Layer != audit.LayerProxy {
			t.Errorf("%+v", e)
		}
	}
	for _, r := range []control.PullRequest{{}, {Name: "x"}, {Name: "x", Hosts: []policy.Rule{{Host: "*", Ports: []uint16{443}}}}, {Name: "x\n", Hosts: request.Hosts}} {
		if err := g.pull(t.Context(), r, nil); err == nil {
			t.Errorf("%+v was taken", r)
		}
	}
}

// connectTo asks the proxy behind socket for target and returns the status.
func connectTo(t *testing.T, socket, target string) int {
	t.Helper()
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", target, target); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	return res.StatusCode
}

// A pull's hosts are such that a policy can have them.
func TestHubHostsAreRules(t *testing.T) {
	var rules []policy.Rule
	for _, h := range hub.Hosts(hub.Job{Want: hub.Want{Encodings: true}}) {
		rules = append(rules, policy.Rule{Host: h.Name, Ports: []uint16{h.Port}, Why: h.Why})
	}
	p, err := policy.New(rules)
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]policy.Verdict{
		"huggingface.co": policy.Allow, "us.aws.cdn.hf.co": policy.Allow, "us-east1.us.gcp.cdn.hf.co": policy.Allow,
		"cas-bridge.xethub.hf.co": policy.Allow, "openaipublic.blob.core.windows.net": policy.Allow,
		"other.blob.core.windows.net": policy.Deny, "x.huggingface.co": policy.Deny, "evil.hf.co": policy.Deny, "cdn.hf.co.evil.example": policy.Deny,
	} {
		if got := p.Decide(host, 443).Verdict; got != want {
			t.Errorf("%s: %v", host, got)
		}
	}
}

// fetchRig is a hub and a forward proxy before it, on a unix socket.
type fetchRig struct {
	hub    *standin.Server
	socket string
	roots  string
	mu     sync.Mutex
	events []audit.Event
}

func newFetchRig(t *testing.T) *fetchRig {
	t.Helper()
	r := &fetchRig{hub: &standin.Server{}}
	dir, err := os.MkdirTemp("/tmp", "sp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	r.socket = filepath.Join(dir, "proxy.sock")
	cert, roots, err := standin.Certificate("*.lab.example")
	if err != nil {
		t.Fatal(err)
	}
	r.roots = roots
	web, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gate, err := net.Listen("unix", r.socket)
	if err != nil {
		t.Fatal(err)
	}
	rules, err := policy.New([]policy.Rule{{Host: "*.lab.example", Ports: []uint16{443}}})
	if err != nil {
		t.Fatal(err)
	}
	forward := &proxy.Forward{
		Policy: func() *policy.Policy { return rules }, Log: quiet,
		Dial: func(ctx context.Context, _ string, _ uint16) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", web.Addr().String())
		},
		Record: func(e audit.Event) error {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.events = append(r.events, e)
			return nil
		},
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = r.hub.Serve(ctx, web, cert) })
	running.Go(func() { _ = forward.Serve(ctx, gate) })
	t.Cleanup(func() { cancel(); running.Wait() })
	return r
}

const fetchToken = "hf_TheSecretOfThisTest"

func (r *fetchRig) options(t *testing.T) pull.Options {
	t.Helper()
	binary, err := exec.LookPath("gateway")
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	return pull.Options{
		Machine: machine.Local(machine.LocalOptions{Home: home, UID: os.Getuid(), GID: os.Getgid(), Environ: os.Environ()}),
		Name:    "tiny", Weights: filepath.Join(home, "a b", "weights"), UID: os.Getuid(), GID: os.Getgid(),
		Job:    hub.Job{Want: hub.Want{Repo: "lab/tiny"}, Endpoint: r.hub.Endpoint(), Roots: r.roots},
		Binary: binary, ProxySocket: r.socket, Token: fetchToken,
	}
}

// The whole way by a process: namespace without a network, relay, proxy, hub.
func TestPullByProcess(t *testing.T) {
	r := newFetchRig(t)
	commit := r.hub.Add(standin.Repo{Name: "lab/tiny", Token: fetchToken, Files: []standin.File{
		{Path: "config.json", Data: []byte("{}")}, {Path: "model.safetensors", Data: make([]byte, 1<<20), LFS: true}}})
	o := r.options(t)
	var last hub.Progress
	o.Report = func(p hub.Progress) { last = p }
	result, err := pull.Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if result.Revision != commit || result.Bytes != 1<<20+2 || last.Done != 2 {
		t.Errorf("%+v, %+v", result, last)
	}
	found, err := hub.Find(t.Context(), o.Machine, o.Weights, o.Job.Want)
	if err != nil || !found.Complete || found.Snapshot != filepath.Join(o.Weights, result.Snapshot) {
		t.Errorf("%+v, %v", found, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.events) == 0 {
		t.Error("nothing was recorded")
	}
	// Without the token it says what to do, with the downloader's own words.
	o.Token, o.Weights = "", o.Weights+"2"
	if _, err = pull.Run(t.Context(), o); hub.KindOf(err) != hub.KindDenied || !strings.Contains(err.Error(), "HF_TOKEN") {
		t.Error(err)
	}
}

// A pull that is stopped leaves no process, and what came stays.
func TestPullIsStopped(t *testing.T) {
	r := newFetchRig(t)
	r.hub.Add(standin.Repo{Name: "lab/tiny", Files: []standin.File{{Path: "model.safetensors", Data: make([]byte, 1<<20), LFS: true}}})
	r.hub.Break(standin.Fault{Path: "model.safetensors", Cut: 400_000, Hold: make(chan struct{})})
	o := r.options(t)
	ctx, cancel := context.WithCancel(t.Context())
	var second error
	once := false
	o.Report = func(p hub.Progress) {
		if p.Bytes >= 400_000 && !once {
			once = true
			_, second = pull.Run(t.Context(), r.again(o))
			cancel()
		}
	}
	_, err := pull.Run(ctx, o)
	if hub.KindOf(err) != hub.KindInterrupted || hub.KindOf(second) != hub.KindRunning {
		t.Errorf("%v, and the second one %v", err, second)
	}
	parts, _ := filepath.Glob(filepath.Join(o.Weights, "hub/models--lab--tiny/blobs/*.incomplete"))
	if len(parts) != 1 {
		t.Fatalf("%q is left", parts)
	}
	r.hub.Mend()
	o.Report = nil
	result, err := pull.Run(t.Context(), o)
	if err != nil || result.Downloaded > 1<<20-400_000 {
		t.Errorf("%+v, %v", result, err)
	}
}

func (r *fetchRig) again(o pull.Options) pull.Options {
	o.Report = nil
	return o
}

// When stdin ends, nothing is left that downloads; wrong jobs are not begun.
func TestFetchWeightsEndsWithStdin(t *testing.T) {
	r := newFetchRig(t)
	r.hub.Add(standin.Repo{Name: "lab/tiny", Files: []standin.File{{Path: "model.safetensors", Data: make([]byte, 1<<20), LFS: true}}})
	r.hub.Break(standin.Fault{Path: "model.safetensors", Cut: 400_000, Hold: make(chan struct{})})
	job, err := json.Marshal(hub.Job{Want: hub.Want{Repo: "lab/tiny"}, Endpoint: r.hub.Endpoint(), Roots: r.roots, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command("gateway", fetchWeights, "--proxy", r.socket, "--listen", "127.0.0.1:0")
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write(append([]byte("\n"), append(job, '\n')...)); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	var last hub.Line
	for lines.Scan() {
		if last, err = hub.ParseLine(lines.Bytes()); err != nil {
			t.Error(err)
		}
		if last.Progress != nil && last.Progress.Bytes >= 400_000 {
			in.Close()
		}
	}
	var exit *exec.ExitError
	if err := c.Wait(); !errors.As(err, &exit) || exit.ExitCode() != exitFailed || last.Result == nil || last.Result.Kind != hub.KindInterrupted {
		t.Errorf("%v, %+v", err, last.Result)
	}
	for _, c := range []struct{ args, job string }{{"--proxy x --direct", ""}, {"", ""}, {"--netns --direct", ""}, {"--direct", "\n{}{}\n"}, {"--direct", "\nx"}, {"--direct", "\n" + `{"other":1}` + "\n"},
		{"--direct", "hf_x"}, {"--direct", strings.Repeat("x", hub.MaxToken+1) + "\n{}\n"}, {"--direct", "{}\n"}} {
		cmd := exec.Command("gateway", append([]string{fetchWeights}, strings.Fields(c.args)...)...)
		cmd.Stdin = strings.NewReader(c.job)
		cmd.Stderr = io.Discard
		if err := cmd.Run(); !errors.As(err, &exit) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// Without namespaces the downloader of --netns does not begin.
func TestFetchWeightsAsserts(t *testing.T) {
	cmd := exec.Command("gateway", fetchWeights, "--proxy", "/absent.sock", "--netns", "--inside", "{}", "--closed")
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "must hold no capability and gain none") || !strings.Contains(string(out), "is writable in the server's namespace") {
		t.Errorf("%v: %s", err, out)
	}
}
