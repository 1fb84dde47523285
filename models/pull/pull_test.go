package pull

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/containers"
	"github.com/sallyport/sallyport/machine"
	"github.com/sallyport/sallyport/models/hub"
)

const token = "hf_TheSecretOfThisTest"

func options() Options {
	return Options{Machine: machine.Local(machine.LocalOptions{}), Name: "tiny", Weights: "/home/me/.cache/huggingface", UID: 1000, GID: 1001,
		HelperImage: "helper", Binary: "/b/gateway", ProxySocket: "/run/user/1000/sallyport/pulls/pull-1/proxy.sock", Token: token}
}

// The downloader's container: no network, two folders, and the token in nothing that
// an engine keeps.
func TestContainer(t *testing.T) {
	o := options()
	o.Engine = &containers.Engine{}
	if err := o.check(); err != nil {
		t.Fatal(err)
	}
	d := &downloader{Options: o}
	s := d.spec()
	want := []containers.Bind{{Source: o.Weights, Target: "/weights"}, {Source: "/run/user/1000/sallyport/pulls/pull-1", Target: "/run/sallyport/pull", ReadOnly: true}}
	if s.Network != "none" || !slices.Equal(s.Binds, want) || !s.StdinOpen || s.UID != 1000 || s.GID != 1001 || s.Name != "sallyport-pull-tiny-1000" ||
		s.IPCHost || s.Writable || s.SeccompUnconfined || s.GPUs || len(s.Devices)+len(s.Groups) > 0 {
		t.Errorf("%+v", s)
	}
	if !slices.Equal(s.Cmd, []string{"fetch-weights", "--proxy", "/run/sallyport/pull/proxy.sock"}) || len(s.Env) != 0 || strings.Contains(fmt.Sprintf("%+v", s), token) {
		t.Errorf("%q, %q", s.Cmd, s.Env)
	}
	if s.Labels[containers.LabelRole] != containers.RolePull || s.Labels[containers.LabelModel] != "tiny" || s.Labels[containers.LabelOwner] != "1000" {
		t.Errorf("%q", s.Labels)
	}
	o.Direct, o.ProxySocket, o.Token = true, "", ""
	d = &downloader{Options: o}
	if s = d.spec(); s.Network != "default" || len(s.Binds) != 1 || len(s.Env) != 0 || !slices.Equal(s.Cmd, []string{"fetch-weights", "--direct"}) {
		t.Errorf("%+v", s)
	}
	job, err := d.job("/weights")
	if err != nil || strings.Contains(string(job), token) {
		t.Errorf("%s, %v", job, err)
	}
}

// The token is the first line of stdin, the job the second, and nothing ends it.
func TestFeeder(t *testing.T) {
	for _, secret := range []string{token, ""} {
		feed, end := feeder(secret, []byte("{}\n"))
		in := bufio.NewReader(feed)
		first, err := in.ReadString('\n')
		second, err2 := in.ReadString('\n')
		if first != secret+"\n" || second != "{}\n" || err != nil || err2 != nil {
			t.Errorf("%q, %q, %v, %v", first, second, err, err2)
		}
		end()
		if _, err := in.ReadByte(); err != io.EOF {
			t.Errorf("after its end: %v", err)
		}
	}
}

// stubborn is an engine that makes containers, and can do nothing else.
type stubborn struct {
	engine
	removed []string
}

var errAttach, errRemove = errors.New("cannot attach"), errors.New("cannot remove")

func (e *stubborn) CreateServer(context.Context, containers.ServerSpec) (string, error) {
	return "id", nil
}

func (e *stubborn) Attach(context.Context, string, containers.AttachOptions) (*containers.Session, error) {
	return nil, errAttach
}

func (e *stubborn) Remove(ctx context.Context, id string) error {
	e.removed = append(e.removed, id)
	return errors.Join(errRemove, ctx.Err())
}

// What is left behind is told, whatever else went wrong; it is removed after ctx too.
func TestRemovalThatFailsIsTold(t *testing.T) {
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for _, ctx := range []context.Context{t.Context(), gone} {
		e := &stubborn{}
		d := &downloader{Options: options(), engine: e}
		_, err := d.inContainer(ctx)
		if !errors.Is(err, errAttach) || !errors.Is(err, errRemove) || errors.Is(err, context.Canceled) || !slices.Equal(e.removed, []string{"id"}) || strings.Contains(err.Error(), token) {
			t.Errorf("got %v, removed %v", err, e.removed)
		}
	}
}

func TestOptions(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"zero":                   func(o *Options) { *o = Options{} },
		"no machine":             func(o *Options) { o.Machine = nil },
		"no name":                func(o *Options) { o.Name = "" },
		"a path as name":         func(o *Options) { o.Name = "a/b" },
		"no folder":              func(o *Options) { o.Weights = "" },
		"a relative folder":      func(o *Options) { o.Weights = "x" },
		"the root":               func(o *Options) { o.Weights = "/." },
		"no way out":             func(o *Options) { o.ProxySocket = "" },
		"two ways out":           func(o *Options) { o.Direct = true },
		"a relative socket":      func(o *Options) { o.ProxySocket = "p.sock" },
		"no binary":              func(o *Options) { o.Binary = "" },
		"no image":               func(o *Options) { o.Engine, o.HelperImage = &containers.Engine{}, "" },
		"a token of more lines":  func(o *Options) { o.Token = "a\nb" },
		"a token without an end": func(o *Options) { o.Token = strings.Repeat("x", hub.MaxToken+1) },
	} {
		o := options()
		change(&o)
		_, err := Run(t.Context(), o)
		if err == nil || strings.Contains(err.Error(), token) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What the downloader writes is not trusted.
func TestOutput(t *testing.T) {
	var told []hub.Progress
	o := newOutput(func(p hub.Progress) { told = append(told, p) })
	line := func(l hub.Line) string {
		data, err := json.Marshal(l)
		if err != nil {
			t.Fatal(err)
		}
		return string(data) + "\n"
	}
	text := line(hub.Line{Progress: &hub.Progress{Stage: "ask"}}) + "nonsense\n" + strings.Repeat("x", 10*hub.MaxLine) + "\n" +
		line(hub.Line{Progress: &hub.Progress{Stage: "download", Total: 9, Bytes: 3, Note: "a\x1b[2Jb"}}) +
		line(hub.Line{Result: &hub.Result{Files: 2}}) + line(hub.Line{Result: &hub.Result{Files: 3}}) + line(hub.Line{Progress: &hub.Progress{}})
	for piece := range slices.Chunk([]byte(text), 100) {
		if n, err := o.Write(piece); n != len(piece) || err != nil {
			t.Fatal(n, err)
		}
	}
	if len(told) != 2 || told[1].Bytes != 3 || strings.Contains(told[1].Note, "\x1b") || o.strays != 4 || cap(o.line) > 4*hub.MaxLine {
		t.Errorf("%+v, %d strays, %d bytes kept", told, o.strays, cap(o.line))
	}
	if r, err := o.result(t.Context(), nil); err != nil || r.Files != 2 {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := o.result(t.Context(), errors.New("exit 9")); err == nil {
		t.Error("success in spite of its exit")
	}
}

func TestResult(t *testing.T) {
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		ctx  context.Context
		end  *hub.Result
		err  error
		want string
	}{
		{t.Context(), nil, nil, "without a word: kaputt ? x"},
		{t.Context(), nil, errors.New("exit status 2"), "exit status 2: kaputt ? x"},
		{t.Context(), &hub.Result{Kind: hub.KindDisk, Error: "full"}, errors.New("exit status 1"), "full"},
		{gone, nil, errors.New("x"), "was stopped"},
		{gone, &hub.Result{Kind: hub.KindRunning, Error: "runs already"}, nil, "runs already"},
	} {
		o := newOutput(nil)
		if _, err := o.errors.Write([]byte("kaputt \x1b\nx\n")); err != nil {
			t.Fatal(err)
		}
		o.end = c.end
		if _, err := o.result(c.ctx, c.err); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v; want %q", err, c.want)
		}
	}
	var long tail
	for range 100 {
		_, _ = long.Write(make([]byte, 1000))
	}
	if len(long.data) > maxErrors {
		t.Errorf("%d bytes of stderr were kept", len(long.data))
	}
}

func TestRoots(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const pem = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"
	system, own, key := file("system", "# x\n"+pem), file("own", pem), file("key", strings.ReplaceAll(pem, "CERTIFICATE", "PRIVATE KEY"))
	for _, c := range []struct {
		own     string
		bundles []string
		count   int // certificates; negative: an error
	}{
		{"", []string{dir + "/absent", key, system}, 1},
		{own, []string{system}, 2},
		{own, nil, 1},
		{"", nil, -1},
		{key, []string{system}, -1},
		{dir + "/absent", []string{system}, -1},
	} {
		text, err := roots(c.own, c.bundles)
		if (err != nil) != (c.count < 0) || err == nil && strings.Count(text, "BEGIN CERTIFICATE") != c.count {
			t.Errorf("%+v: %d, %v", c, strings.Count(text, "BEGIN"), err)
		}
	}
}
