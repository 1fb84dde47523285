//go:build lab

package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/hub"
	"github.com/sallyport/sallyport/internal/lab"
)

// gpuLabs are the labs whose GPU host has an engine, which the tests share.
var gpuLabs = map[lab.GPUEngine]*lab.Shared{}

// gpuLab is the lab whose GPU host has that engine. The laptop's is the current one.
func gpuLab(t *testing.T, kind lab.GPUEngine) *lab.Lab {
	t.Helper()
	if gpuLabs[kind] == nil {
		o := shared.Options
		o.GPUEngine, o.GPUDevices = kind, true
		gpuLabs[kind] = &lab.Shared{Options: o}
	}
	l := gpuLabs[kind].Get(t, lab.Engine28)
	if kind != lab.GPUEngineNone {
		if err := l.GPUHost.LoadLlamaImage(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

// runtimes are the ways in which a GPU host can run a server.
var runtimes = []struct {
	name   string
	engine lab.GPUEngine
	config string // of the host
	says   string // by the launcher, of what it found
}{
	{"docker-28", lab.GPUDocker28, "", "docker"},
	{"podman", lab.GPUPodman, "", "podman"},
	{"process", lab.GPUDocker28, ", runtime: process", "process"},
}

func onRuntimes(t *testing.T, f func(t *testing.T, m *modelUser)) {
	for _, r := range runtimes {
		t.Run(r.name, func(t *testing.T) {
			l := gpuLab(t, r.engine)
			f(t, setUpModel(t, l, r.config))
		})
	}
}

// modelUser is a user whose model is served by us on the GPU host.
type modelUser struct {
	*user
	hub *hub.Server
}

const (
	tinyRepo = "lab/tiny"
	tinyFile = "tiny.gguf"
)

// setUpModel makes a project, the stand-in of the hub with the tiny model, and the
// configuration. At the end the server is stopped and everything is removed.
func setUpModel(t *testing.T, l *lab.Lab, host string) *modelUser {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	m := &modelUser{user: &user{T: t, ctx: ctx, lab: l, project: l.Laptop.Project(t)}, hub: &hub.Server{}}
	t.Cleanup(func() {
		defer cancel()
		m.endModels()
		m.stopAll()
		if _, err := l.Internet.ServeHub(nil); err != nil {
			t.Error(err)
		}
	})
	weights, err := lab.TinyModel(ctx)
	if err != nil {
		t.Fatal(err)
	}
	m.hub.Add(hub.Repo{Name: tinyRepo, Files: []hub.File{
		{Path: tinyFile, Data: weights, LFS: true}, {Path: "README.md", Data: []byte("a tiny model\n")}}})
	roots, err := l.Internet.ServeHub(m.hub)
	if err != nil {
		t.Fatal(err)
	}
	ca := filepath.Join(l.Laptop.Home, "hub-ca.pem")
	m.write(ca, roots)
	m.write(filepath.Join(l.Laptop.Home, ".config/sallyport/config.yaml"), fmt.Sprintf(`hosts:
  - {name: strix, ssh: %s@%s, hardware: cpu%s}
models:
  - {name: tiny, model: %s, file: %s, engine: llama.cpp, image: %s, host: strix, context: 65536, args: [--threads, "2"]}
hub: {endpoint: "https://%s", hosts: [%s], ca: %s}
`, lab.UserName, lab.GPUHostLAN, host, tinyRepo, tinyFile, lab.LlamaImage, hub.Host, hub.CDNHost, ca))
	m.write(filepath.Join(m.project, "README.md"), "# A project\n")
	return m
}

// endModels stops the servers and removes what they and the pulls left on the host.
func (m *modelUser) endModels() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(m.ctx), time.Minute)
	defer cancel()
	m.end(ctx, "tiny")
	if err := m.lab.GPUHost.RemoveContainers(ctx); err != nil { // an ended one is kept for its log
		m.Error(err)
	}
	for _, dir := range []string{".cache/huggingface", ".cache/sallyport", ".cache/sallyport-2"} {
		if err := os.RemoveAll(m.lab.GPUHost.Outside("/home/" + lab.UserName + "/" + dir)); err != nil {
			m.Error(err)
		}
	}
}

// end stops a server, if it runs.
func (m *modelUser) end(ctx context.Context, args ...string) {
	m.Helper()
	args = append([]string{"stop", "--force"}, args...)
	if out, err := m.lab.Laptop.Command(ctx, "launcher", args...).CombinedOutput(); err != nil {
		m.Errorf("launcher %v: %v\n%s", args, err, out)
	}
}

// launcher runs a launcher command and returns what it printed, stderr too.
func (m *modelUser) launcher(args ...string) (string, error) {
	m.Helper()
	out, err := m.command("launcher", args...).CombinedOutput()
	return string(out), err
}

// must is launcher for what has to succeed and print each pattern.
func (m *modelUser) must(args []string, patterns ...string) string {
	m.Helper()
	out, err := m.launcher(args...)
	if err != nil {
		m.Fatalf("launcher %v: %v\n%s", args, err, out)
	}
	m.says(args, out, patterns...)
	return out
}

// mustFail is launcher for what has to fail and print each pattern.
func (m *modelUser) mustFail(args []string, patterns ...string) string {
	m.Helper()
	out, err := m.launcher(args...)
	if err == nil {
		m.Fatalf("launcher %v succeeded:\n%s", args, out)
	}
	m.says(args, out, patterns...)
	return out
}

func (m *modelUser) says(args []string, out string, patterns ...string) {
	m.Helper()
	for _, p := range patterns {
		if !regexp.MustCompile(p).MatchString(out) {
			m.Errorf("launcher %v does not say %q:\n%s", args, p, out)
		}
	}
}

// Someone with a GPU host on which only an engine is installed, or not even that,
// writes five lines of configuration: weights, server, agent, end.
func TestModelFromNothing(t *testing.T) {
	onRuntimes(t, func(t *testing.T, m *modelUser) {
		before := m.packets()
		m.mustFail([]string{"serve", "tiny"}, `the weights of tiny are not on strix`, `launcher pull tiny`)
		var pulled string
		m.timed("pull", func() { pulled = m.must([]string{"pull", "tiny"}, `weights .*`+tinyRepo) })
		m.pulledThroughGateway(pulled)
		m.timed("serve → ready", func() { t.Log(m.must([]string{"serve", "tiny"}, `tiny is ready on strix`, `network: none`)) })
		m.hasNoNetwork()
		m.must([]string{"models"}, `tiny +llama\.cpp +strix +ready`)
		m.must([]string{"status"}, `tiny`, `strix`, `ready`)
		m.must([]string{"logs", "tiny", "-n", "200"}, `(?i)listening`)

		s := m.terminal("launcher", "claude", "tiny")
		s.expect(`tiny at strix .*without a network`)
		s.expect(ready)
		id := m.sandboxID()
		s.send("say something")
		s.expect("say")
		s.send("\r")
		m.eventually("a streamed answer of the real server", func() error { return streamed(m.user, id) })
		m.speed(id)
		s.leave()
		if code := s.end(); code != 0 {
			t.Errorf("exit code %d\n%s", code, s.Text())
		}
		m.must([]string{"serve", "tiny"}, `tiny is ready on strix, started by `+lab.UserName+`@laptop`)
		m.must([]string{"stop", "tiny"}, `tiny`)
		m.must([]string{"status"}, `tiny.*(stopped|absent)`)
		m.onlyThePull(before)
	})
}

var pullID = regexp.MustCompile(`gateway audit --sandbox (pull-[0-9a-f]+)`)

// pulledThroughGateway asserts that the record holds the connections of the pull
// that said so, to the hub's hosts alone.
func (m *modelUser) pulledThroughGateway(said string) {
	m.Helper()
	m.Log(said)
	id := pullID.FindStringSubmatch(said)
	if id == nil {
		m.Fatalf("it does not say what was recorded:\n%s", said)
	}
	hosts := map[string]int{}
	for _, e := range m.events(id[1]) {
		hosts[e.Host]++
		if e.Agent != "pull" || e.Verdict != "allowed" || e.Model != "tiny" || e.BytesOut == 0 {
			m.Errorf("%+v", e)
		}
	}
	if hosts[hub.Host] == 0 || hosts[hub.CDNHost] == 0 || len(hosts) != 2 {
		m.Errorf("the pull reached %v", hosts)
	}
}

// timed logs how long f took, for the reader.
func (m *modelUser) timed(what string, f func()) {
	m.Helper()
	began := time.Now()
	f()
	m.Logf("%s: %v", what, time.Since(began).Round(time.Millisecond))
}

// speed waits for the figures of a request in the record.
func (m *modelUser) speed(id string) {
	m.Helper()
	m.eventually("tokens per second and time to the first token", func() error {
		for _, e := range m.events(id) {
			if e.Path == "/v1/messages" && e.TokensOut > 1 && e.TokensPerSecond > 0 && e.FirstToken > 0 {
				m.Logf("first token after %.3f s, %.0f tokens/s", e.FirstToken, e.TokensPerSecond)
				return nil
			}
		}
		return errors.New("none yet")
	})
}

// hasNoNetwork looks into the server's network namespace: nothing but lo is in it
// (and the kernel's own, unconfigured tunnel devices), and a connection from
// there fails.
func (m *modelUser) hasNoNetwork() {
	m.Helper()
	out, err := m.lab.GPUHost.CommandRoot(m.ctx, "pgrep", "-f", "llama-server.*"+tinyFile).Output()
	pids := strings.Fields(string(out))
	if err != nil || len(pids) == 0 {
		m.Fatalf("no llama-server runs: %v", err)
	}
	pid := pids[len(pids)-1]
	in := func(args ...string) (string, error) {
		out, err := m.lab.GPUHost.CommandRoot(m.ctx, "nsenter", append([]string{"--net=/proc/" + pid + "/ns/net"}, args...)...).CombinedOutput()
		return string(out), err
	}
	links, err := in("ip", "-o", "link", "show", "up")
	if err != nil || strings.Count(links, "\n") != 1 || !strings.Contains(links, ": lo:") {
		m.Errorf("interfaces of the server: %v\n%s", err, links)
	}
	if out, err := in("busybox", "nc", "-w", "5", lab.Web, "80"); err == nil || !strings.Contains(out, "unreachable") {
		m.Errorf("from the server's namespace %s answered: %v %s", lab.Web, err, out)
	}
}

// packets are those that reached the internet so far.
func (m *modelUser) packets() []lab.Packet {
	m.Helper()
	if err := m.lab.Settle(); err != nil {
		m.Fatal(err)
	}
	packets, err := m.lab.Internet.Packets()
	if err != nil {
		m.Fatal(err)
	}
	return packets
}

// onlyThePull asserts that what reached the internet since was the gateway's, on
// the laptop: TCP to the hub, and DNS to find it.
func (m *modelUser) onlyThePull(before []lab.Packet) {
	m.Helper()
	for _, p := range m.packets()[len(before):] {
		hub := p.Proto == 6 && p.Dst.Port() == 443
		dns := p.Proto == 17 && p.Dst.Port() == 53
		if p.From != "laptop" || !hub && !dns {
			m.Errorf("reached the internet: %s", p)
		}
	}
}
