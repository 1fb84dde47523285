package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/config"
	"github.com/sallyport/sallyport/models"
)

// script is an interview whose user types what is given.
func script(typed string) (*interview, *bytes.Buffer) {
	var out bytes.Buffer
	o := &options{process: process{stderr: &out}}
	return &interview{options: o, ask: newAsker(strings.NewReader(typed), &out)}, &out
}

// A wrong answer is said and asked for again; an empty one is the usual one.
func TestQuestion(t *testing.T) {
	colour := func(_ context.Context, answer string) error {
		if answer != "red" && answer != "blue" {
			return errors.New("no colour; hint: red or blue")
		}
		return nil
	}
	for _, tt := range []struct {
		name, typed, flag, usual string
		yes                      bool
		want                     error
		shows                    []string
	}{
		{name: "right", typed: "red\n", shows: []string{"Which? [blue]: "}, usual: "blue"},
		{name: "usual", typed: "\n", usual: "blue"},
		{name: "spaces", typed: "  red \r\n"},
		{name: "wrong, then right", typed: "green\nred\n", shows: []string{"no colour\n", "hint: red or blue", "Which?: "}},
		{name: "empty, then right", typed: "\nred\n", shows: []string{"an answer is needed"}},
		{name: "without a line's end", typed: "red"},
		{name: "ends at once", want: errNoAnswer},
		{name: "ends after a wrong answer", typed: "green\n", want: errNoAnswer, shows: []string{"no colour"}},
		{name: "far too long, then right", typed: strings.Repeat("x", 3*maxAnswer) + "\nred\n", shows: []string{"no colour"}},
		{name: "escape sequences", typed: "\x1b]52;c;x\a\nred\n"},
		{name: "by flag", flag: "red"},
		{name: "wrong by flag", flag: "green", want: errors.New("no colour; hint: red or blue")},
		{name: "yes", yes: true, usual: "blue"},
		{name: "yes, and nothing is usual", yes: true, typed: "red\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v, out := script(tt.typed)
			v.flags.yes = tt.yes
			err := v.question(t.Context(), "Which?", tt.flag, tt.usual, colour)
			if (err == nil) != (tt.want == nil) || err != nil && err.Error() != tt.want.Error() {
				t.Errorf("%v, want %v", err, tt.want)
			}
			for _, s := range tt.shows {
				if !strings.Contains(out.String(), s) {
					t.Errorf("does not show %q:\n%s", s, out)
				}
			}
			if strings.Contains(out.String(), "\x1b") {
				t.Errorf("prints what was typed raw: %q", out)
			}
		})
	}
}

// Input that ends is exit code 2, whatever was asked.
func TestNoAnswerIsUsage(t *testing.T) {
	v, _ := script("maybe\n")
	_, err := v.ask.confirm(t.Context(), "Sure?", true)
	if exitCode(t.Context(), err) != exitUsage {
		t.Errorf("%v", err)
	}
}

// A question that nobody answers ends with ctx.
func TestQuestionInterrupted(t *testing.T) {
	r, w := io.Pipe()
	defer w.Close() // ends the read
	ctx, cancel := context.WithCancel(t.Context())
	v, out := script("")
	v.ask = newAsker(r, out)
	v.ask.out = writeThen{cancel}
	err := v.question(ctx, "Which?", "", "", func(context.Context, string) error { return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if exit := new(exitError); !errors.As(v.unwritten(ctx, err), &exit) || exit.code != exitInterrupted {
		t.Errorf("not exit code %d", exitInterrupted)
	}
}

// writeThen calls a function once something was written.
type writeThen struct{ then func() }

func (w writeThen) Write(p []byte) (int, error) { w.then(); return len(p), nil }

func TestConfirm(t *testing.T) {
	for _, tt := range []struct {
		typed       string
		usual, want bool
	}{
		{"y\n", false, true}, {"YES\n", false, true}, {"n\n", true, false}, {"\n", true, true}, {"\n", false, false}, {"perhaps\nno\n", true, false},
	} {
		v, out := script(tt.typed)
		if got, err := v.ask.confirm(t.Context(), "Sure?", tt.usual); err != nil || got != tt.want {
			t.Errorf("%q: %v, %v", tt.typed, got, err)
		}
		if strings.Contains(tt.typed, "perhaps") != strings.Contains(out.String(), "please answer yes or no") {
			t.Errorf("%q: %s", tt.typed, out)
		}
	}
}

func TestTestModel(t *testing.T) {
	for _, tt := range []struct{ answer, name, engine, refused string }{
		{answer: "1", name: "gpt-oss-120b"},
		{answer: "gpt-oss", name: "gpt-oss"},
		{answer: "GPT-OSS-20B", name: "gpt-oss-20b"},
		{answer: "openai/gpt-oss-20b", name: "gpt-oss-20b"},
		{answer: "gpt-oss llama.cpp", name: "gpt-oss", engine: "llama.cpp"},
		{answer: "2  llama.cpp", name: "gpt-oss-20b", engine: "llama.cpp"},
		{answer: "gpt-oss vllm", name: "gpt-oss"},
		{answer: "gpt-oss ollama", refused: `"ollama" is no engine`},
		{answer: "0", refused: "there is no model 0"},
		{answer: "99", refused: "there is no model 99"},
		{answer: "demo", refused: "demo needs no configuration"},
		{answer: "gpt-5", refused: `no known model is called "gpt-5"`},
	} {
		v, _ := script("")
		err := v.testModel(t.Context(), tt.answer)
		if tt.refused != "" {
			if err == nil || !strings.Contains(err.Error(), tt.refused) {
				t.Errorf("%q: %v", tt.answer, err)
			}
			continue
		}
		if err != nil || v.said.model != tt.name || string(v.said.engine) != tt.engine {
			t.Errorf("%q: %+v, %v", tt.answer, v.said, err)
		}
	}
}

func TestHostName(t *testing.T) {
	v := &interview{config: &config.Config{Hosts: []config.Host{{Name: "mine", SSH: "me@box.example"}}}}
	for ssh, want := range map[string]string{
		"strix": "strix", "me@strix.lan.example": "strix", "me@strix.example:2222": "strix", "ssh://me@strix.example:2222": "strix",
		"me@203.0.113.5": "gpu", "203.0.113.5:22": "gpu", "[2001:db8::1]:22": "gpu", "2001:db8::1": "gpu", "me@local": "gpu", "localhost": "gpu",
		"-x": "x", "a b": "a-b", "me@": "gpu", "me@box.example": "mine",
	} {
		if got := v.hostName(ssh); got != want {
			t.Errorf("%s: %s, want %s", ssh, got, want)
		}
	}
}

// Whatever the answers are, the file says them again, or is refused.
func TestTextIsRead(t *testing.T) {
	for _, ssh := range []string{"me@strix.example", "strix:22", "[2001:db8::1]:22", "no", "1", "1e3", "a#b", "me@x{y", `a"b\c`, "null", "x,y"} {
		for _, weights := range []string{"", "/data/hf", "~/hf", "/mnt/a b/{x}, y", "/ä'ö\"", "/1.5"} {
			a := answers{host: "gpu", ssh: ssh, model: "gpt-oss", engine: models.LlamaCPP, weights: weights}
			path := filepath.Join(t.TempDir(), "config.yaml")
			if err := os.WriteFile(path, []byte(a.text()), 0o600); err != nil {
				t.Fatal(err)
			}
			cfg, err := config.Load(config.Options{Path: path})
			if err != nil {
				t.Errorf("%s\n%v", a.text(), err)
				continue
			}
			h, m := cfg.Hosts[0], cfg.Models[0]
			if h.Name != "gpu" || h.SSH != ssh || h.Weights != weights || m.Name != "gpt-oss" || m.Host != "gpu" || m.Engine != config.EngineLlamaCpp {
				t.Errorf("%s\nreads %+v %+v", a.text(), h, m)
			}
		}
	}
	for _, a := range []answers{{model: "gpt-oss"}, {model: "gpt-oss", weights: "/data/hf"}} {
		path := filepath.Join(t.TempDir(), "config.yaml")
		if err := os.WriteFile(path, []byte(a.text()), 0o600); err != nil {
			t.Fatal(err)
		}
		if cfg, err := config.Load(config.Options{Path: path}); err != nil || cfg.Local.Weights != a.weights || len(cfg.Hosts) != 0 {
			t.Errorf("%s\n%v", a.text(), err)
		}
	}
	if got := strings.Count((answers{host: "strix", ssh: "me@strix", model: "gpt-oss"}).text(), "\n"); got != 5 {
		t.Errorf("%d lines", got)
	}
}

func TestCheckFolderName(t *testing.T) {
	for name, good := range map[string]bool{"/data/hf": true, "~/hf": true, "/data/": true, "hf": false, "": false, "/": false, "~": false, "~/": false, "//": false, "~//": false,
		"/a/../b": false, "/a//b": false, "/a:b": false, "/a\nb": false, "~me/x": false} {
		if err := checkFolderName(name); (err == nil) != good {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestWriteConfig(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "sallyport")
	path := filepath.Join(dir, "config.yaml")
	accept := func(string) error { return nil }
	refuse := func(string) error { return errors.New("not valid") }
	files := func() (names []string) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return names
	}
	content := func(path, want string) {
		t.Helper()
		got, err := os.ReadFile(path)
		if err != nil || string(got) != want {
			t.Errorf("%s: %q, %v; want %q", path, got, err, want)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
	}
	if _, err := writeConfig(path, []byte("bad"), false, refuse); err == nil || len(files()) != 0 {
		t.Errorf("%v, and there is %v", err, files())
	}
	if kept, err := writeConfig(path, []byte("one"), false, accept); err != nil || kept != "" {
		t.Fatal(kept, err)
	}
	content(path, "one")
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder has mode %v", info.Mode())
	}
	if _, err := writeConfig(path, []byte("two"), false, accept); err == nil {
		t.Error("a file was overwritten")
	}
	if _, err := writeConfig(path, []byte("bad"), true, refuse); err == nil {
		t.Error("a bad file was written")
	}
	content(path, "one")
	if len(files()) != 1 {
		t.Errorf("there is %v", files())
	}
	if kept, err := writeConfig(path, []byte("two"), true, accept); err != nil || kept != path+".bak" {
		t.Fatal(kept, err)
	}
	content(path, "two")
	content(path+".bak", "one")
	// A link to nowhere is somebody's too.
	link := filepath.Join(dir, "link.yaml")
	if err := os.Symlink("nowhere", link); err != nil {
		t.Fatal(err)
	}
	if _, err := writeConfig(link, []byte("three"), false, accept); err == nil {
		t.Error("a link was replaced")
	}
	if len(files()) != 3 {
		t.Errorf("there is %v", files())
	}
}

func TestAddKnownHost(t *testing.T) {
	file := filepath.Join(t.TempDir(), ".ssh", "known_hosts")
	add := func(line string) {
		t.Helper()
		if err := addKnownHost(file, line); err != nil {
			t.Fatal(err)
		}
	}
	add("a ssh-ed25519 AAAA")
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	if err := errors.Join(os.WriteFile(file, []byte("b ssh-ed25519 BBBB"), 0), os.Chmod(file, 0o644)); err != nil {
		t.Fatal(err)
	}
	add("c ssh-ed25519 CCCC")
	got, err := os.ReadFile(file)
	if err != nil || string(got) != "b ssh-ed25519 BBBB\nc ssh-ed25519 CCCC\n" {
		t.Errorf("%q, %v", got, err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("mode %v", info.Mode())
	}
	for _, bad := range []string{"", "a\nb"} {
		if err := addKnownHost(file, bad); err == nil {
			t.Errorf("%q was added", bad)
		}
	}
	if err := addKnownHost("/dev/null", "a ssh-ed25519 AAAA"); err == nil {
		t.Error("a device was written to")
	}
}
