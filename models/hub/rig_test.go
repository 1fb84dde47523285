package hub

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	standin "github.com/sallyport/sallyport/internal/hub"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/proxy"
)

const (
	repo  = "lab/tiny"
	token = "hf_TheSecretOfThisTest"
)

// rig is a pull's surroundings: the stand-in of the hub, the gateway's forward
// proxy on a unix socket with a policy of this pull, and the relay before it.
type rig struct {
	t      *testing.T
	hub    *standin.Server
	job    Job
	opt    Options
	commit string

	mu       sync.Mutex
	recorded *sync.Cond // of mu
	events   []audit.Event
	progress []Progress
	pauses   []time.Duration
}

// newRig starts all of it, with a repository of two shards, small files, and
// others that the job does not want.
func newRig(t *testing.T, rules ...policy.Rule) *rig {
	t.Helper()
	r := &rig{t: t, hub: &standin.Server{}}
	r.recorded = sync.NewCond(&r.mu)
	r.commit = r.hub.Add(tiny())
	cert, roots, err := standin.Certificate("*.lab.example", "*.elsewhere.example")
	if err != nil {
		t.Fatal(err)
	}
	r.job = Job{
		Want:     Want{Repo: repo, Include: []string{"*.json", "*.safetensors", "sub/*"}},
		Endpoint: r.hub.Endpoint(), EncodingsURL: r.hub.EncodingsURL(), Dir: t.TempDir(), Roots: roots, By: "me@laptop",
	}
	web := listen(t, "tcp", "127.0.0.1:0")
	r.start(func(ctx context.Context) error { return r.hub.Serve(ctx, web, cert) })
	if rules == nil {
		rules = []policy.Rule{{Host: standin.Host, Ports: []uint16{443}}, {Host: standin.CDNHost, Ports: []uint16{443}}, {Host: standin.EncodingsHost, Ports: []uint16{443}}}
	}
	rule, err := policy.New(rules)
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(t.TempDir(), "p.sock")
	forward := &proxy.Forward{
		Subject: audit.Subject{Sandbox: "pull-1", Agent: "pull", Model: "tiny"}, Policy: func() *policy.Policy { return rule },
		Dial: func(ctx context.Context, host string, port uint16) (net.Conn, error) {
			if strings.HasSuffix(host, ".nowhere.example") {
				return nil, errors.New("no such host")
			}
			return (&net.Dialer{}).DialContext(ctx, "tcp", web.Addr().String())
		},
		Record: func(e audit.Event) error {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.events = append(r.events, e)
			r.recorded.Broadcast()
			return nil
		},
		Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
	}
	gate := listen(t, "unix", socket)
	r.start(func(ctx context.Context) error { return forward.Serve(ctx, gate) })
	way := listen(t, "tcp", "127.0.0.1:0")
	r.start(func(ctx context.Context) error {
		return Relay(ctx, way, func(ctx context.Context) (net.Conn, error) { return (&net.Dialer{}).DialContext(ctx, "unix", socket) })
	})
	r.opt = Options{
		Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: way.Addr().String()}),
		Report: func(p Progress) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.progress = append(r.progress, p)
		},
		wait: func(ctx context.Context, d time.Duration) error {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.pauses = append(r.pauses, d)
			return ctx.Err()
		},
	}
	return r
}

func listen(t *testing.T, network, address string) net.Listener {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// start runs a server until the test ends, and waits for it.
func (r *rig) start(serve func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx) }()
	r.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			r.t.Errorf("a server of the test: %v", err)
		}
	})
}

// noise is what nothing could have guessed, made once.
var noise = sync.OnceValue(func() []byte {
	data := make([]byte, 2_000_000)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range data {
		data[i] = byte(random.Uint32())
	}
	return data
})

// tiny is the repository of most tests.
func tiny() standin.Repo {
	return standin.Repo{Name: repo, Page: 2, Files: []standin.File{
		{Path: ".gitattributes", Data: []byte("*.safetensors filter=lfs\n")},
		{Path: "config.json", Data: []byte(`{"model_type": "tiny"}` + "\n")},
		{Path: "model-00001-of-00002.safetensors", Data: noise()[:700_000], LFS: true},
		{Path: "model-00002-of-00002.safetensors", Data: noise()[700_000:1_000_001], LFS: true},
		{Path: "model.safetensors.index.json", Data: []byte(`{"metadata": {"total_size": 1000000}, "weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}`)},
		{Path: "original/consolidated.safetensors", Data: noise()[1_100_000:], LFS: true},
		{Path: "sub/empty.txt"},
		{Path: "sub/template (1).jinja", Data: []byte("{{ messages }}")},
	}}
}

// fetch is Fetch as it should end: with an error of that kind, or none.
func (r *rig) fetch(kind Kind) (Result, error) {
	r.t.Helper()
	result, err := Fetch(r.t.Context(), r.job, r.opt)
	if KindOf(err) != kind || (err == nil) != (kind == "") {
		r.t.Fatalf("Fetch ended with %v (kind %q); want kind %q", err, KindOf(err), kind)
	}
	return result, err
}

// inRepo is the path of a file in the cache.
func (r *rig) inRepo(name string) string {
	return filepath.Join(r.job.Dir, "hub", "models--lab--tiny", name)
}

// wanted are the files that the job wants.
func (r *rig) wanted() []standin.File {
	return slices.DeleteFunc(tiny().Files, func(f standin.File) bool { return !r.job.includes(f.Path) })
}

// complete fails the test unless the snapshot holds the wanted files and no others.
func (r *rig) complete() {
	r.t.Helper()
	var found []string
	root := r.inRepo("snapshots/" + r.commit)
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			name, _ := filepath.Rel(root, path)
			found = append(found, name)
		}
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	var want []string
	for _, f := range r.wanted() {
		want = append(want, f.Path)
		data, err := os.ReadFile(filepath.Join(root, f.Path))
		if err != nil || !bytes.Equal(data, f.Data) {
			r.t.Errorf("%s: %v, or other content", f.Path, err)
		}
		blob := f.Git()
		if f.LFS {
			blob = f.SHA256()
		}
		up := strings.Repeat("../", 2+strings.Count(f.Path, "/"))
		if target, err := os.Readlink(filepath.Join(root, f.Path)); err != nil || target != up+"blobs/"+blob {
			r.t.Errorf("%s leads to %q, %v", f.Path, target, err)
		}
	}
	slices.Sort(want)
	slices.Sort(found)
	if !slices.Equal(found, want) {
		r.t.Errorf("the snapshot holds %q, want %q", found, want)
	}
	if left, _ := filepath.Glob(r.inRepo("blobs/*.incomplete")); len(left) > 0 {
		r.t.Errorf("left behind: %q", left)
	}
}

// await waits until each of these is among the verdicts: what was allowed is
// recorded when the connection has ended.
func (r *rig) await(want ...string) {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, w := range want {
		for !slices.ContainsFunc(r.events, func(e audit.Event) bool { return e.Verdict+" "+e.Host == w }) {
			r.recorded.Wait()
		}
	}
}

// verdicts are the events, as "allowed hub.lab.example".
func (r *rig) verdicts() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	seen := map[string]int{}
	for _, e := range r.events {
		seen[e.Verdict+" "+e.Host]++
	}
	return seen
}

// notes are what people were told, joined.
func (r *rig) notes() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var b strings.Builder
	for _, p := range r.progress {
		if p.Note != "" {
			fmt.Fprintln(&b, p.Note)
		}
	}
	return b.String()
}
