//go:build lab

// Package page_test looks at the audit page in a real Chromium, as its readers
// do, over a record of one afternoon.
package page_test

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/web"
)

// limit bounds the whole visit; nothing asserts how long something takes.
const limit = 10 * time.Minute

func inOrder(moments []moment) []moment {
	slices.SortStableFunc(moments, func(a, b moment) int { return a.at.Compare(b.at) })
	return moments
}

// stage is what the visit is made to.
type stage struct {
	*testing.T
	*web.Server
	store *audit.Store
	clock *clock
	last  audit.Event // that was added
}

func setUp(t *testing.T) *stage {
	t.Helper()
	c := &clock{}
	path := filepath.Join(t.TempDir(), "audit.db")
	store := fill(t, path, c)
	s := &web.Server{Store: store, Open: func() (*audit.Reader, error) { return audit.OpenReader(path) }, Sandboxes: sandboxes, Status: status,
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "sallyport_up 1") }),
		Now:     c.now, Loc: time.UTC, Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	for s.URL() == "" { // until Serve has looked at its listener
		select {
		case err := <-done:
			t.Fatal(err)
		default:
		}
	}
	return &stage{T: t, Server: s, store: store, clock: c}
}

// line is what the visitor says: what it asks for, or what one check found.
type line struct {
	Ask   string `json:"ask"`
	Check string `json:"check"`
	OK    bool   `json:"ok"`
	Note  string `json:"note"`
	Done  bool   `json:"done"`
}

// TestPage is the whole visit: testdata/visit.mjs has its steps.
func TestPage(t *testing.T) {
	s := setUp(t)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	visitor := exec.CommandContext(ctx, "node", "testdata/visit.mjs")
	visitor.Env = append(os.Environ(), "PAGE_MODULES="+modules(t), "PAGE_SHOTS="+shots(t), "PAGE_PROFILE="+t.TempDir(),
		"PAGE_BROWSER="+cmp.Or(os.Getenv("PAGE_BROWSER"), "/usr/bin/chromium"))
	visitor.Stderr = t.Output()
	in, err := visitor.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := visitor.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := visitor.Start(); err != nil {
		t.Fatalf("start node: %v; hint: scripts/browser installs it", err)
	}
	done := s.talk(out, in)
	if err := visitor.Wait(); err != nil || !done {
		t.Errorf("the visit did not come to its end: %v", err)
	}
}

// talk answers what the visitor asks for and reports its checks, until it is done
// or goes away.
func (s *stage) talk(out io.Reader, in io.Writer) (done bool) {
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var l line
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			s.Errorf("the visitor said %q", lines.Text())
			continue
		}
		switch {
		case l.Done:
			done = true
		case l.Ask != "":
			answer, err := json.Marshal(s.answer(l.Ask))
			if err != nil {
				s.Fatal(err)
			}
			if _, err := fmt.Fprintf(in, "%s\n", answer); err != nil {
				s.Error(err)
			}
		default:
			s.Run(strings.ReplaceAll(l.Check, " ", "-"), func(t *testing.T) {
				if !l.OK {
					t.Error(l.Note)
				}
			})
		}
	}
	return done
}

// answer does what the visitor asks for.
func (s *stage) answer(ask string) any {
	add := func(e audit.Event) string {
		s.clock.set(s.clock.now().Add(time.Second))
		s.last = add(s.T, s.store, e)
		return s.last.ID
	}
	wget := program(702, "/usr/bin/wget", "wget https://late.example/", "bash")
	switch ask {
	case "url":
		return s.URL()
	case "hostile":
		return hostile
	case "refuse":
		return add(query(shop, "late.example", wget))
	case "refuse other":
		return add(connect(shop, "later.example", wget))
	case "refuse hostile":
		e := query(shop, hostile, program(703, "/tmp/"+hostile, "x "+hostile, "<i>sh</i>"))
		e.Project = "/home/ada/" + strings.ReplaceAll(hostile, "/", "_")
		return add(e)
	case "allow":
		return add(allowed(docs, "docs.mirror.example", wget))
	case "lose":
		return add(audit.Event{Subject: shop, Layer: audit.LayerPacket, Proto: "udp", Rule: "lost", Lost: 17, Reason: "17 packets of which only the number is known"})
	}
	s.Errorf("the visitor asks for %q", ask)
	return nil
}

// modules is the folder that scripts/browser put playwright-core into.
func modules(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	folder := cmp.Or(os.Getenv("SALLYPORT_BROWSER_CACHE"), filepath.Join(cache, "sallyport", "browser"))
	if _, err := os.Stat(filepath.Join(folder, "node_modules", "playwright-core")); err != nil {
		t.Fatalf("%v; hint: scripts/browser", err)
	}
	return folder
}

// shots is where pictures go: with PAGE_SHOTS=$PWD/docs those of the docs are made
// anew.
func shots(t *testing.T) string {
	t.Helper()
	if folder := os.Getenv("PAGE_SHOTS"); folder != "" {
		return folder
	}
	return t.TempDir()
}
