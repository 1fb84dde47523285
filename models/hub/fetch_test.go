package hub

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	standin "github.com/sallyport/sallyport/internal/hub"
	"github.com/sallyport/sallyport/policy"
)

func TestFetch(t *testing.T) {
	r := newRig(t)
	result, _ := r.fetch("")
	r.complete()
	if result.Revision != r.commit || result.Snapshot != "hub/models--lab--tiny/snapshots/"+r.commit || result.Files != 6 ||
		result.Bytes != result.Downloaded || result.Bytes < 1_000_000 {
		t.Errorf("%+v", result)
	}
	if ref, err := os.ReadFile(r.inRepo("refs/main")); err != nil || string(ref) != r.commit {
		t.Errorf("refs/main holds %q, %v", ref, err)
	}
	last := r.progress[len(r.progress)-1]
	if last.Stage != StageEnd || last.Done != 6 || last.Files != 6 || last.Bytes != result.Bytes || last.Total != result.Bytes {
		t.Errorf("the last progress is %+v", last)
	}
	counts := r.hub.Counts()
	if counts["tree"] != 4 || counts["resolve original/consolidated.safetensors"] != 0 || counts["resolve sub/empty.txt"] != 0 {
		t.Errorf("%v", counts)
	}
	// What is there is not asked for again.
	again, _ := r.fetch("")
	if again.Downloaded != 0 || r.hub.Counts()["bytes"] != counts["bytes"] {
		t.Errorf("again: %+v", again)
	}
}

// Every connection is the gateway's to judge, and each is in its record.
func TestFetchIsRecorded(t *testing.T) {
	r := newRig(t)
	r.job.Encodings = true
	data := []byte("IQ== 0\n")
	sum := sha256.Sum256(data)
	r.job.Vocabularies = []Vocabulary{{"o200k_base.tiktoken", hex.EncodeToString(sum[:])}}
	r.hub.AddVocabulary("o200k_base.tiktoken", data)
	r.fetch("")
	if got, err := os.ReadFile(filepath.Join(r.job.Dir, EncodingsFolder, "o200k_base.tiktoken")); err != nil || !bytes.Equal(got, data) {
		t.Errorf("the vocabulary file holds %q, %v", got, err)
	}
	r.fetch("")
	if n := r.hub.Counts()["encodings o200k_base.tiktoken"]; n != 1 {
		t.Errorf("it was asked for %d times", n)
	}
	r.await("allowed "+standin.Host, "allowed "+standin.CDNHost, "allowed "+standin.EncodingsHost)
	r.hub.AddVocabulary("o200k_base.tiktoken", []byte("IQ== 1\n"))
	if err := os.Remove(filepath.Join(r.job.Dir, EncodingsFolder, "o200k_base.tiktoken")); err != nil {
		t.Fatal(err)
	}
	r.fetch(KindCorrupt)
	if _, err := os.Stat(filepath.Join(r.job.Dir, EncodingsFolder, "o200k_base.tiktoken")); err == nil {
		t.Error("a wrong vocabulary file was kept")
	}
}

// A redirect to a host that is not on the list is refused by the gateway, with an
// event, and said.
func TestFetchRedirectedElsewhere(t *testing.T) {
	r := newRig(t)
	r.opt.Token = token
	r.hub.Break(standin.Fault{Path: "model-00001-of-00002.safetensors", Redirect: "https://evil.elsewhere.example/x?Signature=SIGNED", Times: -1})
	_, err := r.fetch(KindRefused)
	if !strings.Contains(err.Error(), "evil.elsewhere.example") || !strings.Contains(err.Error(), "hub.hosts") || strings.Contains(err.Error(), "SIGNED") {
		t.Error(err)
	}
	if seen := r.verdicts(); seen["denied evil.elsewhere.example"] != 1 {
		t.Errorf("%v", seen)
	}
	if len(r.pauses) > 0 {
		t.Errorf("tried again: %v", r.pauses)
	}
}

func TestFetchGated(t *testing.T) {
	r := newRig(t)
	gated := tiny()
	gated.Token = token
	r.hub.Add(gated)
	_, err := r.fetch(KindDenied)
	if !strings.Contains(err.Error(), "HF_TOKEN") || !strings.Contains(err.Error(), "gated") {
		t.Error(err)
	}
	r.opt.Token = "hf_wrong"
	if _, err = r.fetch(KindDenied); !strings.Contains(err.Error(), "this HF_TOKEN") || strings.Contains(err.Error(), "hf_wrong") {
		t.Error(err)
	}
}

// The token goes to the hub alone: not to the CDN, not to the vocabulary's host,
// and into no text and no file.
func TestFetchSendsTokenToTheHubAlone(t *testing.T) {
	r := newRig(t)
	gated := tiny()
	gated.Token = token
	r.hub.Add(gated)
	r.opt.Token = token
	r.job.Encodings = true
	data := []byte("IQ== 0\n")
	sum := sha256.Sum256(data)
	r.job.Vocabularies = []Vocabulary{{"o200k_base.tiktoken", hex.EncodeToString(sum[:])}}
	r.hub.AddVocabulary("o200k_base.tiktoken", data)
	r.hub.Break(standin.Fault{Path: "model-00002-of-00002.safetensors", Cut: 1000, Times: 1})
	r.fetch("")
	r.complete()
	got := r.hub.Tokened()
	if got[standin.Host] == 0 || len(got) != 1 {
		t.Errorf("the token went to %v", got)
	}
	r.noToken(r.job.Dir)
	// What is reported and recorded does not have it either.
	r.await("allowed " + standin.CDNHost)
	r.mu.Lock()
	text, err := json.Marshal([]any{r.progress, r.events})
	r.mu.Unlock()
	if err != nil || bytes.Contains(text, []byte(token)) {
		t.Errorf("%v, or the token is in it", err)
	}
}

// noToken fails if the token is anywhere in a folder.
func (r *rig) noToken(dir string) {
	r.t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if bytes.Contains(data, []byte(token)) {
			r.t.Errorf("%s holds the token", path)
		}
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

// Go sends Authorization on to names below the first one's; we do not.
func TestTokenStaysAtTheHubsName(t *testing.T) {
	hub := &url.URL{Scheme: "https", Host: "hub.example"}
	c := &client{hub: hub, token: token}
	for _, s := range []struct {
		address string
		own     bool
	}{
		{"https://hub.example/x", true},
		{"https://HUB.example:443/x", true},
		{"https://hub.example:8443/x", false},
		{"http://hub.example/x", false},
		{"https://cdn.hub.example/x", false},
		{"https://hub.example.evil.example/x", false},
		{"https://hub.example./x", false},
	} {
		u, err := url.Parse(s.address)
		if err != nil || c.own(u) != s.own {
			t.Errorf("%s: own is %v, %v", s.address, c.own(u), err)
		}
	}
}

func TestFetchResumes(t *testing.T) {
	r := newRig(t)
	const shard = "model-00001-of-00002.safetensors"
	r.hub.Break(standin.Fault{Path: shard, Cut: 200_000, Times: 1})
	r.hub.Break(standin.Fault{Path: shard, Cut: 100_000, Times: 2})
	result, _ := r.fetch("")
	r.complete()
	// What came is bytes that were sent, once each: nothing was sent twice.
	if result.Downloaded != result.Bytes {
		t.Errorf("%+v", result)
	}
	if n := r.hub.Counts()["cdn "+shard]; n != 4 {
		t.Errorf("%d requests", n)
	}
	if notes := r.notes(); !strings.Contains(notes, "trying again in 1s") {
		t.Errorf("it was not said: %q", notes)
	}
}

// A pull that gives up keeps what it has, and the next one goes on.
func TestFetchGivesUpAndGoesOn(t *testing.T) {
	r := newRig(t)
	const shard = "model-00001-of-00002.safetensors"
	r.hub.Break(standin.Fault{Path: shard, Cut: 300_000, Times: 1})
	r.hub.Break(standin.Fault{Path: shard, Status: 503, Times: -1, Skip: 1})
	_, err := r.fetch(KindHub)
	if !strings.Contains(err.Error(), "503") {
		t.Error(err)
	}
	if info, err := os.Stat(r.inRepo("blobs/" + tiny().Files[2].SHA256() + ".incomplete")); err != nil || info.Size() == 0 {
		t.Fatalf("nothing was kept: %v", err)
	}
	r.hub.Mend()
	before := r.hub.Counts()["bytes"]
	result, _ := r.fetch("")
	r.complete()
	if sent := r.hub.Counts()["bytes"] - before; int64(sent) != result.Downloaded || sent > 700_000 {
		t.Errorf("%d bytes were sent, %d are said", sent, result.Downloaded)
	}
}

func TestFetchTriesAgain(t *testing.T) {
	r := newRig(t)
	r.hub.Break(standin.Fault{Path: "tree", Status: 503})
	r.hub.Break(standin.Fault{Path: "revision", Status: 429, Headers: map[string]string{"Retry-After": "7"}})
	r.hub.Break(standin.Fault{Path: "config.json", Status: 500})
	r.fetch("")
	r.complete()
	if len(r.pauses) != 3 || r.pauses[0] != 7*time.Second || r.pauses[1] != time.Second {
		t.Errorf("it waited %v", r.pauses)
	}
}

func TestFetchUnreachable(t *testing.T) {
	for name, change := range map[string]func(*rig){
		"no such host": func(r *rig) { r.job.Endpoint = "https://hub.nowhere.example" },
		"no proxy": func(r *rig) {
			r.opt.Proxy = http.ProxyURL(&url.URL{Scheme: "http", Host: "127.0.0.1:1"})
		},
		"another certificate": func(r *rig) { _, r.job.Roots, _ = standin.Certificate("*.lab.example") },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, policy.Rule{Host: "*.nowhere.example", Ports: []uint16{443}}, policy.Rule{Host: standin.Host, Ports: []uint16{443}})
			change(r)
			_, err := r.fetch(KindUnreachable)
			if len(r.pauses) > 0 {
				t.Errorf("tried again %d times: %v", len(r.pauses), err)
			}
		})
	}
}

// The hub itself refused is said as that.
func TestFetchRefusedHub(t *testing.T) {
	r := newRig(t, policy.Rule{Host: "other.example", Ports: []uint16{443}})
	_, err := r.fetch(KindRefused)
	if len(r.pauses) > 0 || r.verdicts()["denied "+standin.Host] != 1 || !strings.Contains(err.Error(), "not on the allow list") {
		t.Errorf("%v, %v", err, r.verdicts())
	}
}

func TestFetchNames(t *testing.T) {
	r := newRig(t)
	r.job.Repo = "lab/absent"
	r.fetch(KindDenied)
	r.job.Repo, r.job.Revision = repo, "v9"
	r.fetch(KindRevision)
	r.job.Revision, r.job.Include = "", []string{"*.bin"}
	r.fetch(KindUsage)
}

func TestFetchPinned(t *testing.T) {
	r := newRig(t)
	r.job.Revision = r.commit
	r.fetch("")
	r.complete()
	if ref, err := os.ReadFile(r.inRepo("refs/main")); err != nil || string(ref) != r.commit {
		t.Errorf("refs/main holds %q, %v", ref, err)
	}
	lying := tiny()
	lying.Lie = strings.Repeat("b", 40)
	r.hub.Add(lying)
	_, err := r.fetch(KindRevision)
	if !strings.Contains(err.Error(), lying.Lie) || !strings.Contains(err.Error(), r.commit) {
		t.Error(err)
	}
	// Somebody's main stays what it is.
	if err := os.WriteFile(r.inRepo("refs/main"), []byte(strings.Repeat("c", 40)), 0o600); err != nil {
		t.Fatal(err)
	}
	r.hub.Add(tiny())
	r.fetch("")
	if ref, _ := os.ReadFile(r.inRepo("refs/main")); string(ref) != strings.Repeat("c", 40) {
		t.Errorf("refs/main was changed to %q", ref)
	}
}

func TestFetchCorrupt(t *testing.T) {
	for _, path := range []string{"model-00001-of-00002.safetensors", "config.json"} {
		r := newRig(t)
		r.hub.Break(standin.Fault{Path: path, Corrupt: true, Times: -1})
		_, err := r.fetch(KindCorrupt)
		if !strings.Contains(err.Error(), path) {
			t.Error(err)
		}
		if _, err := os.Lstat(r.inRepo("snapshots/" + r.commit + "/" + path)); err == nil {
			t.Errorf("a corrupt %s is in the snapshot", path)
		}
		r.hub.Mend()
		r.fetch("")
		r.complete()
	}
}

// What lies there unfinished is not trusted: it is hashed with the rest, and
// where that comes out wrong, all is downloaded anew.
func TestFetchOverDamagedParts(t *testing.T) {
	for name, part := range map[string][]byte{
		"damaged":   bytes.Repeat([]byte("x"), 1000),
		"too long":  bytes.Repeat([]byte("x"), 800_000),
		"all wrong": bytes.Repeat([]byte("x"), 700_000),
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			blob := r.inRepo("blobs/" + tiny().Files[2].SHA256() + ".incomplete")
			if err := errors.Join(os.MkdirAll(filepath.Dir(blob), 0o700), os.WriteFile(blob, part, 0o600)); err != nil {
				t.Fatal(err)
			}
			r.fetch("")
			r.complete()
			if last := r.progress[len(r.progress)-1]; last.Bytes != last.Total || last.Done != last.Files {
				t.Errorf("the last progress is %+v", last)
			}
		})
	}
}

func TestFetchWithoutRanges(t *testing.T) {
	r := newRig(t)
	const shard = "model-00002-of-00002.safetensors"
	r.hub.Break(standin.Fault{Path: shard, Cut: 100_000})
	r.hub.Break(standin.Fault{Path: shard, NoRange: true})
	r.fetch("")
	r.complete()
	if n := r.hub.Counts()["cdn "+shard]; n != 2 {
		t.Errorf("%d requests", n)
	}
	if last := r.progress[len(r.progress)-1]; last.Bytes != last.Total {
		t.Errorf("the last progress is %+v", last)
	}
}

func TestFetchWrongRange(t *testing.T) {
	r := newRig(t)
	const shard = "model-00002-of-00002.safetensors"
	r.hub.Break(standin.Fault{Path: shard, Cut: 100_000})
	r.hub.Break(standin.Fault{Path: shard, Range: "bytes 0-300000/300001"})
	r.fetch(KindHub)
}

func TestFetchTwice(t *testing.T) {
	r := newRig(t)
	hold := make(chan struct{})
	r.hub.Break(standin.Fault{Path: "model-00001-of-00002.safetensors", Cut: 1000, Hold: hold})
	first := make(chan error, 1)
	held := make(chan struct{})
	report := r.opt.Report
	opt := r.opt
	opt.Report = func(p Progress) {
		report(p)
		if p.Stage == StageDownload {
			select {
			case <-held:
			default:
				close(held)
			}
		}
	}
	go func() {
		_, err := Fetch(t.Context(), r.job, opt)
		first <- err
	}()
	select {
	case <-held:
	case err := <-first:
		t.Fatal(err)
	}
	_, err := r.fetch(KindRunning)
	if !strings.Contains(err.Error(), "me@laptop") {
		t.Error(err)
	}
	close(hold)
	if err := <-first; err != nil {
		t.Error(err)
	}
	r.complete()
}

func TestFetchStops(t *testing.T) {
	r := newRig(t)
	r.hub.Break(standin.Fault{Path: "model-00001-of-00002.safetensors", Cut: 50_000, Hold: make(chan struct{})})
	ctx, cancel := context.WithCancel(t.Context())
	r.opt.Report = func(p Progress) {
		if p.Stage == StageDownload && p.Bytes >= 350_000 { // all but the rest of that shard
			cancel()
		}
	}
	_, err := Fetch(ctx, r.job, r.opt)
	if KindOf(err) != KindInterrupted {
		t.Fatal(err)
	}
	r.hub.Mend()
	r.opt.Report = nil
	r.fetch("")
	r.complete()
}

func TestFetchNoRoom(t *testing.T) {
	r := newRig(t)
	r.opt.free = func(*store) (int64, error) { return spare + 1_000_000, nil }
	_, err := r.fetch(KindDisk)
	if !strings.Contains(err.Error(), "68.1 MB are needed, 68.1 MB are free") {
		t.Error(err)
	}
	if n := r.hub.Counts()["resolve config.json"]; n != 0 {
		t.Error("it began all the same")
	}
	r.opt.free = func(*store) (int64, error) { return spare + 1_001_000, nil }
	r.fetch("")
}

// A blob of another snapshot is linked, not downloaded.
func TestFetchSharesBlobs(t *testing.T) {
	r := newRig(t)
	r.fetch("")
	before := r.hub.Counts()["bytes"]
	next := tiny()
	next.Commit = strings.Repeat("d", 40)
	r.commit = r.hub.Add(next)
	result, _ := r.fetch("")
	r.complete()
	if r.hub.Counts()["bytes"] != before || result.Downloaded != 0 {
		t.Errorf("%+v", result)
	}
}

// Symbolic links in the cache lead nowhere else.
func TestFetchKeepsToItsFolder(t *testing.T) {
	for _, link := range []string{"snapshots", "blobs", "snapshots/COMMIT", "snapshots/COMMIT/sub", ""} {
		t.Run(link, func(t *testing.T) {
			r := newRig(t)
			outside := t.TempDir()
			path := r.inRepo(strings.ReplaceAll(link, "COMMIT", r.commit))
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.Symlink(outside, path)); err != nil {
				t.Fatal(err)
			}
			_, err := r.fetch(KindFiles)
			if left, _ := os.ReadDir(outside); len(left) > 0 {
				t.Errorf("%d files were written outside", len(left))
			}
			if !strings.Contains(err.Error(), "hint:") {
				t.Error(err)
			}
		})
	}
}
