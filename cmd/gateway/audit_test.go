package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/control"
)

func TestParseMoment(t *testing.T) {
	zone := time.FixedZone("", 2*3600)
	now := time.Date(2026, 3, 1, 0, 30, 0, 0, time.UTC) // 02:30 in the zone
	for text, want := range map[string]string{
		"10m": "2026-03-01 02:20:00", "36h": "2026-02-27 14:30:00", "2d": "2026-02-27 02:30:00", "1w": "2026-02-22 02:30:00", "1h30m": "2026-03-01 01:00:00",
		"today": "2026-03-01 00:00:00", "yesterday": "2026-02-28 00:00:00", "now": "2026-03-01 02:30:00",
		"2026-02-28": "2026-02-28 00:00:00", "2026-02-28 15:04": "2026-02-28 15:04:00", "2026-02-28T15:04:05": "2026-02-28 15:04:05", "2026-02-28T15:04:05Z": "2026-02-28 17:04:05",
		"": "", "0s": "", "-5m": "", "5": "", "forever": "", "2026-02-30": "", "2026-2-3": "", "tomorrow": "", "12:00": "", "\x1b[2J": "",
	} {
		got, ok := parseMoment(text, now, zone)
		if text := got.In(zone).Format(time.DateTime); ok != (want != "") || ok && text != want {
			t.Errorf("%q: %s, %v, want %q", text, text, ok, want)
		}
	}
}

// Days begin where the clock says so, also when it is set forward or back.
func TestParseMomentDaylightSaving(t *testing.T) {
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	for _, now := range []time.Time{time.Date(2026, 3, 29, 12, 0, 0, 0, zone), time.Date(2026, 10, 25, 12, 0, 0, 0, zone)} {
		today, _ := parseMoment("today", now, zone)
		yesterday, _ := parseMoment("yesterday", now, zone)
		if today.Format(time.TimeOnly) != "00:00:00" || yesterday.Format(time.TimeOnly) != "00:00:00" || yesterday.Day() == today.Day() {
			t.Errorf("%v: %v, %v", now, today, yesterday)
		}
	}
}

func TestScreen(t *testing.T) {
	for _, width := range []uint16{40, 80, 200} {
		master, slave, err := pty.Open()
		if err != nil {
			t.Fatal(err)
		}
		defer master.Close()
		defer slave.Close()
		if err := pty.Setsize(master, &pty.Winsize{Rows: 24, Cols: width}); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			env     string
			colours bool
		}{{"TERM=xterm", true}, {"NO_COLOR=1", false}, {"TERM=dumb", false}} {
			p := process{stdout: slave, environ: func() []string { return []string{c.env} }}
			if s := p.screen(outputFlags{}); s.Width != int(width) || s.Colours != c.colours || s.Loc != time.Local {
				t.Errorf("%d, %s: %+v", width, c.env, s)
			}
			if s := p.screen(outputFlags{width: 60, utc: true}); s.Width != 60 || s.Loc != time.UTC {
				t.Errorf("%+v", s)
			}
		}
	}
	var b bytes.Buffer
	if s := (process{stdout: &b}).screen(outputFlags{}); s.Width != 0 || s.Colours {
		t.Errorf("off a terminal: %+v", s)
	}
}

// What a shell is offered is nothing that it could act on.
func TestOffer(t *testing.T) {
	var found []string
	for _, c := range [][2]string{
		{"a.example", ""}, {"$(touch x)", ""}, {"`x`", ""}, {"a b", ""}, {"a;b", ""}, {"", ""}, {"b.example", "fine text"}, {"c.example", "$(x)"}, {"d.example\x1b[2J", ""}, {"ü.example", ""},
	} {
		found = offer(found, c[0], "", c[1])
	}
	if got, want := strings.Join(found, "|"), "a.example|b.example\tfine text|c.example"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// The page is opened in a browser, if there is one and a screen for it; else its
// address is printed.
func TestOpenPage(t *testing.T) {
	dir, err := os.MkdirTemp("/tmp", "sp") // short: a socket lies in it
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"url":"http://127.0.0.1:1/?token=x"}`) })}
	go server.Serve(l)
	defer server.Close()
	opener := func(script string) { // xdg-open, in a PATH of its own
		if err := os.WriteFile(filepath.Join(dir, "xdg-open"), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir)
	folder, asked := t.TempDir(), 0
	kept := func(context.Context) { // what the browser was given, while it may read it
		asked++
		opened, err := os.ReadFile(filepath.Join(dir, "opened"))
		name := strings.TrimSpace(string(opened))
		if err != nil || filepath.Dir(name) != folder { // everybody can read arguments: nothing else is in them
			t.Fatalf("opened %q, %v", opened, err)
		}
		info, err := os.Stat(name)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", info, err)
		}
		if text, err := os.ReadFile(name); err != nil || !strings.Contains(string(text), `content="0;url=http://127.0.0.1:1/?token=x"`) {
			t.Errorf("%q, %v", text, err)
		}
	}
	for _, c := range []struct{ script, display, stdout, stderr string }{
		{"", "", "http://127.0.0.1:1/?token=x\n", ""},
		{"exit 4", "", "http://127.0.0.1:1/?token=x\n", ""},
		{"echo \"$@\" > " + dir + "/opened", ":0", "", "the audit page was opened in your browser; if it does not show, open this address, which works once: http://127.0.0.1:1/?token=x\n"},
		{"exit 3", ":0", "http://127.0.0.1:1/?token=x\n", "gateway: the browser could not be opened: exit status 3; hint: open this address, which works once\n"},
	} {
		if c.script != "" {
			opener(c.script)
		}
		var stdout, stderr bytes.Buffer
		p := process{stdout: &stdout, stderr: &stderr, environ: os.Environ, lookupenv: func(name string) (string, bool) {
			return c.display, name == "DISPLAY" && c.display != ""
		}}
		if err := p.openPage(t.Context(), control.NewClient(filepath.Join(dir, "s")), folder, kept); err != nil {
			t.Error(err)
		}
		if stdout.String() != c.stdout || stderr.String() != c.stderr {
			t.Errorf("%+v: %q, %q", c, stdout.String(), stderr.String())
		}
	}
	if asked != 1 {
		t.Errorf("the file was kept %d times", asked)
	}
	if left, err := os.ReadDir(folder); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	err = process{}.openPage(t.Context(), control.NewClient(filepath.Join(dir, "none")), folder, kept)
	if err == nil || !strings.Contains(err.Error(), "hint: ") {
		t.Errorf("without a gateway: %v", err)
	}
}

func TestPrintReport(t *testing.T) {
	report := audit.Report{Events: 3, First: audit.Head{Seq: 8}, Head: audit.Head{Seq: 10}, Checkpoints: 2, Open: 1, OpenCount: 9,
		Problems: []audit.Problem{{Seq: 9, ID: "01A\x1b[2J", What: "changed"}, {Seq: 11, What: "missing"}, {What: "the file is damaged"}}}
	var b bytes.Buffer
	if err := printReport(&b, report, "/x/audit.db", ""); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"events   3, number 8 to 10\n", "pruned   2 times: ", "open     1 events of repeats (9 attempts) are still", "WRONG    3 found:\n",
		`  event 9 (01A\x1b[2J): changed` + "\n", "  event 11: missing\n", "  the file is damaged\n",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("lacks %q:\n%s", want, b.String())
		}
	}
}
