package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	standin "github.com/sallyport/sallyport/internal/hub"
)

// announce is a page of the list of files with one file of that path.
func announce(path string) []byte {
	data, _ := json.Marshal([]map[string]any{{"type": "file", "path": path, "size": 1, "oid": strings.Repeat("a", 40)}})
	return data
}

// Names that could lie elsewhere than in the snapshot, or that nothing good is
// named.
func TestHostileNames(t *testing.T) {
	for _, name := range []string{
		"", ".", "..", "../x", "a/../../x", "a/..", "/etc/passwd", "//x", "a//b", "a/", "./a", "a/./b",
		`..\x`, `a\..\b`, "a\x00b", "a\nb", "a\x1b[2Jb", "a\xff", "a\u202eb",
		strings.Repeat("a", 256), strings.Repeat("a/", 16) + "b", strings.Repeat("abcdefgh/", 120) + "b",
	} {
		if files, err := parseTree(announce(name)); err == nil && len(files) > 0 && files[0].Path == name {
			t.Errorf("%q was taken", name)
		}
	}
	for _, name := range []string{"config.json", ".gitattributes", "a/b c (1).gguf", "ÄÖ/ü.txt", "..a/b..", strings.Repeat("a", 255)} {
		if _, err := parseTree(announce(name)); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestHostileTrees(t *testing.T) {
	const oid = `"oid": "0123456789012345678901234567890123456789"`
	for _, page := range []string{
		`{`, `{"error": "x"}`, `[1]`, `[{"type": "file", "path": "a", "size": 1}]`,
		`[{"type": "file", "path": "a", "size": -1, ` + oid + `}]`,
		`[{"type": "file", "path": "a", "size": 1e30, ` + oid + `}]`,
		`[{"type": "file", "path": "a", "size": 90000000000000, ` + oid + `}]`,
		`[{"type": "file", "path": "a", "size": 1, "oid": "../../../../../../../../../../../../etc/x"}]`,
		`[{"type": "file", "path": "a", "size": 1, ` + oid + `, "lfs": {"oid": "../x", "size": 1}}]`,
		`[{"type": "file", "path": "a", "size": 1, ` + oid + `, "lfs": {"oid": "", "size": 1}}]`,
	} {
		if files, err := parseTree([]byte(page)); err == nil {
			t.Errorf("%s was taken: %+v", page, files)
		}
	}
	git := strings.Repeat("a", 40)
	for _, files := range [][]File{
		{{Path: "a", Git: git}, {Path: "a", Git: git}},
		{{Path: "a/b", Git: git}, {Path: "a", Git: git}},
		{{Path: "a", Git: git, Size: maxRepoSize}, {Path: "b", Git: git, Size: 1}},
	} {
		if checkTree(files) == nil {
			t.Errorf("%+v was taken", files)
		}
	}
}

// A hostile name ends the pull before anything is written.
func TestFetchHostileName(t *testing.T) {
	r := newRig(t)
	hostile := tiny()
	hostile.Files = append(hostile.Files, standin.File{Path: "../../../../escaped", Data: []byte("x")})
	r.hub.Add(hostile)
	_, err := r.fetch(KindHub)
	if !strings.Contains(err.Error(), "escaped") {
		t.Error(err)
	}
	if _, err := os.Stat(r.inRepo("snapshots/" + r.commit)); err == nil {
		t.Error("a snapshot was begun")
	}
}

func FuzzTree(f *testing.F) {
	f.Add(announce("config.json"))
	f.Add([]byte(`[{"type":"file","oid":"0123456789012345678901234567890123456789","size":1,"path":"a/b","lfs":{"oid":"x","size":2}}]`))
	f.Fuzz(func(t *testing.T, page []byte) {
		files, err := parseTree(page)
		if err != nil {
			return
		}
		if checkTree(files) != nil {
			return
		}
		for _, file := range files {
			if !filepath.IsLocal(file.Path) || strings.Contains(file.Path, `\`) || file.Size < 0 || strings.ContainsAny(file.blob(), "/.") || len(file.blob()) < 40 {
				t.Errorf("%+v was taken", file)
			}
		}
	})
}

func FuzzLine(f *testing.F) {
	f.Add([]byte(`{"progress":{"stage":"download","files":3,"done":1,"total":100,"bytes":10,"rate":5.5,"left":18,"note":""}}`))
	f.Add([]byte(`{"result":{"snapshot":"a","revision":"b","files":1,"bytes":1,"downloaded":1,"kind":"disk","error":"x","hint":"y"}}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		l, err := ParseLine(line)
		if err != nil {
			return
		}
		if p := l.Progress; p != nil && (p.Bytes > p.Total || p.Done > p.Files || p.Bytes < 0 || p.Rate < 0 || hasControl(p.Note+p.Stage)) {
			t.Errorf("%+v", p)
		}
		if r := l.Result; r != nil && (hasControl(r.Error+r.Hint+r.Snapshot+string(r.Kind)) || r.Bytes < 0) {
			t.Errorf("%+v", r)
		}
	})
}

func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

func FuzzLook(f *testing.F) {
	f.Add([]byte("folder /w\nsnapshot " + strings.Repeat("a", 40) + "\ncommit " + strings.Repeat("a", 40) + "\nfile 3 ./config.json\nshard \"x.safetensors\"\ntotal 3 i\n"))
	f.Fuzz(func(t *testing.T, out []byte) {
		l, err := parseLook(out)
		if err != nil {
			if hasControl(err.Error()) {
				t.Errorf("%q", err)
			}
			return
		}
		l.list = parseList(out)
		if found := l.judge(Want{Repo: repo}); found.Complete && len(found.Missing) > 0 || hasControl(found.Weights+found.Snapshot) || found.Snapshot != "" && !strings.HasPrefix(found.Snapshot, found.Weights) {
			t.Errorf("%+v", found)
		}
	})
}

// A folder that cannot be named safely is none, and the names of files say nothing
// of folder and commit.
func TestHostileLook(t *testing.T) {
	a, b := strings.Repeat("a", 40), strings.Repeat("b", 40)
	for _, first := range []string{"folder /w\x1b]0;x\a", "folder w", "folder ", "folder /", "folder /w/../x", "folder /w\u202e", "snapshot " + a, "folder /" + strings.Repeat("x", 5000)} {
		if l, err := parseLook([]byte(first + "\nfolder /w\n")); err == nil || hasControl(err.Error()) || l.folder != "" {
			t.Errorf("%q: %q, %v", first, l.folder, err)
		}
	}
	l, err := parseLook([]byte("folder /w\nsnapshot " + a + "\nsnapshot x\x1b[2J\ncommit " + a + "\nfile 3 ./x\nfolder /etc\ncommit " + b + "\n"))
	if found := l.judge(Want{Repo: repo}); err != nil || found.Weights != "/w" || found.Revision != a || !strings.HasPrefix(found.Snapshot, "/w/hub/") {
		t.Errorf("%+v, %v", found, err)
	}
}

// What is found lies where it really does, whatever links lead there.
func TestFindBehindLink(t *testing.T) {
	r := newRig(t)
	r.fetch("")
	real, link := r.job.Dir, filepath.Join(t.TempDir(), "hf")
	if err := os.Symlink(real, link); err != nil {
		t.Fatal(err)
	}
	r.job.Dir = link
	if found := r.find(); !found.Complete || found.Weights != real || !strings.HasPrefix(found.Snapshot, real+"/hub/") {
		t.Errorf("%+v", found)
	}
}

func TestParseLine(t *testing.T) {
	for _, line := range []string{
		"", "x", "{}", `{"progress":{},"result":{}}`, `{"progress":{}}{}`, `{"other":1}`, `{"progress":{"stage":1}}`,
		`{"progress":{"stage":"` + strings.Repeat("x", MaxLine) + `"}}`,
	} {
		if l, err := ParseLine([]byte(line)); err == nil {
			t.Errorf("%.40q was taken: %+v", line, l)
		}
	}
	l, err := ParseLine([]byte(`{"progress":{"stage":"x","files":2,"done":5,"total":10,"bytes":99,"rate":-1,"left":-7,"note":"a\u001b[31m\u202eb"}}`))
	if p := l.Progress; err != nil || p.Done != 2 || p.Bytes != 10 || p.Rate != 0 || p.Left != -1 || hasControl(p.Note) {
		t.Errorf("%+v, %v", l.Progress, err)
	}
	want := fail(KindDisk, "make room", "full")
	data, err := json.Marshal(Line{Result: new(ResultOf(Result{Files: 3}, want))})
	if err != nil {
		t.Fatal(err)
	}
	if l, err = ParseLine(data); err != nil || l.Result.Err().Error() != want.Error() || KindOf(l.Result.Err()) != KindDisk || l.Result.Files != 3 {
		t.Errorf("%+v, %v", l.Result, err)
	}
}

// sh runs a script here, with dash or whatever sh is.
func sh(ctx context.Context, script string, stdin io.Reader, args ...string) ([]byte, error) {
	c := exec.CommandContext(ctx, "sh", append([]string{"-c", script, "sallyport"}, args...)...)
	c.Stdin = stdin
	c.Stderr = os.Stderr
	return c.Output()
}

func (r *rig) find() Found {
	r.t.Helper()
	found, err := find(r.t.Context(), sh, r.job.Dir, r.job.Want)
	if err != nil {
		r.t.Fatal(err)
	}
	return found
}

func TestFind(t *testing.T) {
	r := newRig(t)
	if found := r.find(); found.Complete || found.Snapshot != "" || found.HaveBytes != 0 || !found.EncodingsComplete {
		t.Errorf("an empty folder: %+v", found)
	}
	r.job.Dir += "/absent"
	if found := r.find(); found.Complete || len(found.Missing) != 1 {
		t.Errorf("no folder: %+v", found)
	}
	r.job.Dir = filepath.Dir(r.job.Dir)
	result, _ := r.fetch("")
	found := r.find()
	if !found.Complete || found.Revision != r.commit || found.HaveBytes != result.Bytes || len(found.Missing) != 0 ||
		found.Snapshot != filepath.Join(r.job.Dir, result.Snapshot) {
		t.Errorf("after the pull: %+v", found)
	}
	pinned := r.job.Want
	r.job.Revision = r.commit
	if found := r.find(); !found.Complete {
		t.Errorf("by its commit: %+v", found)
	}
	r.job.Revision = strings.Repeat("e", 40)
	if found := r.find(); found.Complete || len(found.Others) != 1 || found.Others[0] != r.commit {
		t.Errorf("another commit: %+v", found)
	}
	r.job.Want = pinned
	// A shard that was cut short, one that is gone, and one that comes just now.
	shard := r.inRepo("blobs/" + tiny().Files[2].SHA256())
	if err := os.Truncate(shard, 5); err != nil {
		t.Fatal(err)
	}
	if found := r.find(); found.Complete || !strings.Contains(strings.Join(found.Missing, ";"), "5 bytes instead of 700000") {
		t.Errorf("cut short: %+v", found)
	}
	if err := os.Rename(shard, shard+".incomplete"); err != nil {
		t.Fatal(err)
	}
	if found := r.find(); found.Complete || found.HaveBytes != result.Bytes-700_000+5 {
		t.Errorf("unfinished: %+v", found)
	}
	r.job.Encodings = true
	if found := r.find(); found.EncodingsComplete || found.Complete {
		t.Errorf("without vocabularies: %+v", found)
	}
}

// The vocabulary files count by what is in them.
func TestFindVocabularies(t *testing.T) {
	r := newRig(t)
	r.job.Encodings = true
	r.job.Vocabularies = []Vocabulary{{"a.tiktoken", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}} // of "abc", FIPS 180-2
	path := filepath.Join(r.job.Dir, EncodingsFolder, "a.tiktoken")
	for text, want := range map[string]bool{"abc": true, "abd": false} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
		if found := r.find(); found.EncodingsComplete != want {
			t.Errorf("%q: %+v", text, found)
		}
	}
}

// What huggingface_hub downloaded has no list of ours: it is judged by its own
// index and by its names.
func TestFindForeign(t *testing.T) {
	const index = "model.safetensors.index.json"
	for name, c := range map[string]struct {
		change   func(r *rig)
		complete bool
		missing  string
	}{
		"whole":          {func(*rig) {}, true, ""},
		"its own list":   {func(r *rig) { r.move("sallyport", "trees") }, true, ""},
		"a list of all":  {func(r *rig) { r.move("sallyport", "trees"); r.drop("sub/template (1).jinja") }, false, "template"},
		"no shard":       {func(r *rig) { r.drop("model-00002-of-00002.safetensors") }, false, "model-00002"},
		"no index":       {func(r *rig) { r.drop(index) }, true, ""},
		"neither":        {func(r *rig) { r.drop(index); r.drop("model-00001-of-00002.safetensors") }, false, "model-00001"},
		"no config":      {func(r *rig) { r.drop("config.json") }, false, "config.json"},
		"a short shard":  {func(r *rig) { r.truncate(2) }, false, "bytes of the shards"},
		"an empty shard": {func(r *rig) { r.drop(index); r.empty(2) }, false, "model-00001"},
		"a link to nothing": {func(r *rig) {
			if err := os.Remove(r.inRepo("blobs/" + tiny().Files[3].SHA256())); err != nil {
				r.t.Fatal(err)
			}
		}, false, "model-00002"},
		"unfinished, whole by its index": {func(r *rig) { r.unfinished() }, true, ""},
		"unfinished":                     {func(r *rig) { r.drop(index); r.unfinished() }, false, "unfinished"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.fetch("")
			c.change(r)
			if _, err := os.Stat(r.inRepo("trees")); err != nil {
				if err := os.RemoveAll(r.inRepo("sallyport")); err != nil {
					t.Fatal(err)
				}
			}
			found := r.find()
			if found.Complete != c.complete || !strings.Contains(strings.Join(found.Missing, ";"), c.missing) {
				t.Errorf("%+v", found)
			}
		})
	}
}

func (r *rig) move(from, to string) {
	if err := os.Rename(r.inRepo(from), r.inRepo(to)); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) drop(name string) {
	if err := os.Remove(filepath.Join(r.inRepo("snapshots"), r.commit, name)); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) truncate(file int) {
	if err := os.Truncate(r.inRepo("blobs/"+tiny().Files[file].SHA256()), 600_000); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) empty(file int) {
	if err := os.Truncate(r.inRepo("blobs/"+tiny().Files[file].SHA256()), 0); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) unfinished() {
	if err := os.WriteFile(r.inRepo("blobs/"+strings.Repeat("f", 64)+".incomplete"), []byte("x"), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// A GGUF of one file, and names that scripts trip over.
func TestFindOneFile(t *testing.T) {
	r := newRig(t)
	const name = "Q4 K/$(touch x) 'tiny'.gguf"
	r.commit = r.hub.Add(standin.Repo{Name: repo, Files: []standin.File{{Path: name, Data: []byte("GGUF0"), LFS: true}, {Path: "big.gguf", Data: []byte("GGUF1"), LFS: true}}})
	r.job.Include = []string{name}
	r.fetch("")
	for _, listed := range []bool{true, false} {
		if !listed {
			if err := os.RemoveAll(r.inRepo("sallyport")); err != nil {
				t.Fatal(err)
			}
		}
		if found := r.find(); !found.Complete || found.HaveBytes != 5 {
			t.Errorf("listed %v: %+v", listed, found)
		}
	}
	r.job.Include = []string{"big.gguf"}
	if found := r.find(); found.Complete {
		t.Errorf("%+v", found)
	}
}

func TestWants(t *testing.T) {
	for _, w := range []Want{
		{}, {Repo: "x"}, {Repo: "a/b/c"}, {Repo: "../b"}, {Repo: "a/.."}, {Repo: "a/b..c"}, {Repo: "a--b/c"}, {Repo: "-a/b"}, {Repo: "a/b c"},
		{Repo: "a/b", Revision: "../x"}, {Repo: "a/b", Revision: "-x"}, {Repo: "a/b", Revision: "a//b"}, {Repo: "a/b", Revision: "x y"},
		{Repo: "a/b", Include: []string{"["}}, {Repo: "a/b", Include: []string{""}},
		{Repo: "a/b", Vocabularies: []Vocabulary{{"../x.tiktoken", strings.Repeat("a", 64)}}},
		{Repo: "a/b", Vocabularies: []Vocabulary{{"x.tiktoken", "y"}}},
	} {
		if w.check() == nil {
			t.Errorf("%+v was taken", w)
		}
	}
	for _, endpoint := range []string{"http://hub.example", "hub.example", "https://", "https://u:p@hub.example", "https://hub.example/?x", "ftp://x"} {
		if _, err := (Job{Want: Want{Repo: "a/b"}, Endpoint: endpoint, Dir: "/w"}).check(); err == nil {
			t.Errorf("endpoint %q was taken", endpoint)
		}
	}
	w := Want{Repo: "a/b", Include: []string{"*.safetensors", "sub/*.json"}}
	for file, want := range map[string]bool{"x.safetensors": true, "original/x.safetensors": false, "sub/a.json": true, "a.json": false, "sub/a/b.json": false} {
		if w.includes(file) != want {
			t.Errorf("%s: %v", file, !want)
		}
	}
}

// relayed is a relay to a listener, and how to open a connection to it.
func relayed(t *testing.T) (far net.Listener, open func() net.Conn, end func()) {
	far = listen(t, "tcp", "127.0.0.1:0")
	near := listen(t, "tcp", "127.0.0.1:0")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- Relay(ctx, near, func(ctx context.Context) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", far.Addr().String())
		})
	}()
	t.Cleanup(func() { far.Close() })
	open = func() net.Conn {
		c, err := net.Dial("tcp", near.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	return far, open, func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// The end of one direction is passed on; the other goes on.
func TestRelay(t *testing.T) {
	far, open, end := relayed(t)
	c := open()
	other, err := far.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, "question"); err != nil {
		t.Fatal(err)
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(other); err != nil || string(got) != "question" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := io.WriteString(other, "answer"); err != nil {
		t.Fatal(err)
	}
	other.Close()
	if got, err := io.ReadAll(c); err != nil || string(got) != "answer" {
		t.Errorf("%q, %v", got, err)
	}
	end()
}

// One connection more than there is room for is closed, and all are at the end.
func TestRelayIsBounded(t *testing.T) {
	far, open, end := relayed(t)
	first := open()
	for range maxRelayed - 1 {
		open()
	}
	for range maxRelayed {
		if _, err := far.Accept(); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := open().Read(make([]byte, 1)); err == nil {
		t.Errorf("read %d bytes", n)
	}
	end()
	if n, err := first.Read(make([]byte, 1)); err == nil {
		t.Errorf("read %d bytes", n)
	}
}

func TestHosts(t *testing.T) {
	names := func(j Job) (list []string) {
		for _, h := range Hosts(j) {
			list = append(list, fmt.Sprintf("%s:%d", h.Name, h.Port))
		}
		return list
	}
	all := names(Job{Want: Want{Encodings: true}})
	if len(all) != len(hosts)+1 || all[len(all)-1] != "openaipublic.blob.core.windows.net:443" || all[0] != "huggingface.co:443" {
		t.Errorf("%q", all)
	}
	if got := names(Job{Endpoint: "https://hub.lab.example:8443/x", EncodingsURL: "https://e.example/"}); len(got) != 1 || got[0] != "hub.lab.example:8443" {
		t.Errorf("%q", got)
	}
	if got := names(Job{Endpoint: "http://hub.lab.example"}); len(got) != 0 {
		t.Errorf("%q", got)
	}
}
