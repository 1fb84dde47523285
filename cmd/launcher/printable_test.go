package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/config"
	"github.com/sallyport/sallyport/control"
)

const evil = "a\x1b]52;c;x\a\u202eb\u009b2J\r"

// tame fails if a terminal would obey something in text.
func tame(t *testing.T, what, text string) {
	t.Helper()
	if strings.ContainsAny(text, "\x1b\a\r\t\u202e\u009b") || !strings.Contains(text, `a\x1b]52`) {
		t.Errorf("%s: %q", what, text)
	}
}

func TestPrintable(t *testing.T) {
	if got := printable("a\tb\n  c\x1b[2Jü\n"); got != "a b\n  c\\x1b[2Jü\n" {
		t.Errorf("%q", got)
	}
	for text, want := range map[string]string{"": "", "abcd": "abcd", "abcde": "abcd…", "abcü": "abc…"} {
		if got := shorten(text, 4); got != want {
			t.Errorf("%q: %q", text, got)
		}
	}
}

// Nothing of remote origin reaches the terminal as it is.
func TestTextOfOthersIsTame(t *testing.T) {
	err := errors.New(evil)
	for what, say := range map[string]func(*bytes.Buffer){
		"warn":        func(b *bytes.Buffer) { newProgress(b, false, false).warn("%v", err) },
		"note":        func(b *bytes.Buffer) { newProgress(b, false, false).note("%v", err) },
		"done":        func(b *bytes.Buffer) { newProgress(b, false, false).done("x", "%v", err) },
		"meter":       func(b *bytes.Buffer) { newProgress(b, false, false).meter("x").note("%v", err) },
		"step":        func(b *bytes.Buffer) { plan{b}.step("%v", err) },
		"command":     func(b *bytes.Buffer) { plan{b}.words("docker", evil) },
		"tellUnknown": func(b *bytes.Buffer) { tellUnknown(b, []modelReport{{Listed: true, Error: evil}}) },
		"models": func(b *bytes.Buffer) {
			_ = printModels(b, io.Discard, []modelReport{{Weights: weightsReport{Known: true, Complete: true, Folder: evil}}})
		},
		"run": func(b *bytes.Buffer) {
			_ = run(t.Context(), process{environ: []string{"HOME=" + t.TempDir()}, args: []string{"models", "--config", "/no\n" + evil}, stdout: os.Stdout, stderr: b})
		},
		"interview": func(b *bytes.Buffer) {
			v := &interview{options: &options{process: process{stderr: b}}}
			v.say("%v", err)
			v.warn("%v", err)
		},
	} {
		var b bytes.Buffer
		say(&b)
		tame(t, what, b.String())
	}
}

func TestRefusals(t *testing.T) {
	var r refusals
	for i := range 1000 {
		r.add(control.PullConnection{Host: strings.Repeat("x", i%50) + evil, Port: 443, Reason: strings.Repeat("y", 10_000)})
	}
	var b bytes.Buffer
	r.tell(newProgress(&b, false, false))
	tame(t, "refusals", b.String())
	if lines := strings.Split(b.String(), "\n"); len(lines) != maxRefused+2 || len(r.count) != maxRefused || b.Len() > 2*maxRefused*refusedText ||
		!strings.Contains(lines[0], ", 20 times") || lines[maxRefused] != "launcher: and 600 more connections, to others" {
		t.Errorf("%d bytes: %q", b.Len(), b.String())
	}
}

func TestSomeNames(t *testing.T) {
	names := make([]string, 5000)
	for i := range names {
		names[i] = evil + strings.Repeat("n", 200)
	}
	got := someNames(names)
	tame(t, "names", got)
	if len(got) > namesShown*(nameShown+8)+20 || !strings.HasSuffix(got, ", and 4992 more") {
		t.Errorf("%d bytes: %q", len(got), got)
	}
}

func TestNotReady(t *testing.T) {
	cfg := &config.Config{Models: []config.Model{
		{Name: "own", Engine: config.EngineVLLM, Model: "org/own"},
		{Name: "theirs", Endpoint: config.Endpoint{Network: "unix", Address: "/m.sock"}},
	}}
	for name, theirs := range map[string]bool{"own": false, "theirs": true, "demo": false} {
		m, err := findModel(cfg, name)
		if err != nil {
			t.Fatal(err)
		}
		text := (&session{model: m}).notReady(control.ModelCheck{Error: evil}).Error()
		tame(t, name, text)
		if strings.Contains(text, "models.endpoint") != theirs {
			t.Errorf("%s: %q", name, text)
		}
	}
}
