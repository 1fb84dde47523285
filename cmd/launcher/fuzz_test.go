package main

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/spf13/cobra"
)

// What stands behind -- reaches the agent as it is, and nothing of it is taken for
// the launcher's own.
func FuzzArguments(f *testing.F) {
	for _, s := range []string{"claude\x00gpt-oss\x00--\x00-p\x00fix it", "claude\x00gpt-oss", "run\x00debian\x00demo\x00--\x00--unsafe-mount", "shell\x00demo\x00--\x00--\x00-c\x00x",
		"claude\x00--unsafe-mount\x00m", "claude\x00--config\x00--\x00m", "claud", "-q\x00claude\x00m\x00extra", "claude\x00m\x00--nonsense", "--config=a\x00claude\x00--dry-run\x00m\x00--\x00--config=b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		args := strings.Split(text, "\x00")
		if strings.HasPrefix(args[0], "__") || slices.Contains(args, "completion") || slices.Contains(args, "help") {
			return // cobra's own
		}
		root := newRoot(process{})
		root.SetArgs(args)
		root.SetOut(io.Discard)
		root.SetErr(io.Discard)
		var got []string
		var named string
		for _, c := range root.Commands() {
			c.RunE = func(c *cobra.Command, args []string) error { named, got = c.Name(), args; return nil }
		}
		err := root.ExecuteContext(context.Background())
		if err != nil {
			if s := err.Error(); strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }) && !strings.ContainsFunc(text, func(r rune) bool { return unicode.IsControl(r) && r != 0 }) {
				t.Errorf("%q: error %q", args, s)
			}
			return
		}
		want := map[string]int{"claude": 1, "shell": 1, "run": 2}
		n, ok := want[named]
		if !ok {
			return
		}
		behind := []string{}
		if at := dash(args); at >= 0 {
			behind = args[at+1:]
		}
		if len(got) < n || !slices.Equal(got[n:], behind) {
			t.Errorf("%q: %s gets %q; behind -- stands %q", args, named, got, behind)
		}
		if flag := root.PersistentFlags().Lookup("unsafe-mount"); flag.Changed && !slices.ContainsFunc(args[:len(args)-len(behind)], func(s string) bool { return strings.HasPrefix(s, "--unsafe-mount") }) {
			t.Errorf("%q mounts what is refused", args)
		}
	})
}

// dash is where the -- stands that ends the launcher's own arguments: not one that
// is the value of --config or --summary.
func dash(args []string) int {
	for i := 0; i < len(args); i++ {
		switch args[i] {
		case "--config", "--summary":
			i++
		case "--":
			return i
		}
	}
	return -1
}

// The home of a project has a plain name of its own.
func FuzzHomeName(f *testing.F) {
	for _, s := range []string{"/home/me/shop-api", "/", "/a/..", "/x/\x1b[2J", "/ü/日本", "/a/-rf", "/" + strings.Repeat("x", 300)} {
		f.Add(s, s+"/b")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		name := homeName(a)
		if !filepath.IsLocal(name) || filepath.Base(name) != name || len(name) > 60 || strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._") != "" {
			t.Errorf("the home of %q is %q", a, name)
		}
		if a != b && homeName(b) == name {
			t.Errorf("%q and %q have one home", a, b)
		}
	})
}

// A folder's name that is taken is an absolute path which says where it leads.
func FuzzFolderName(f *testing.F) {
	for _, s := range []string{"/w", "~/w/", "w", "/", "/a/../b", "~", "~x/y", "/a:b", "/a\n", "//a", "/a/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, folder string) {
		err := checkFolderName(folder)
		rest, home := strings.CutPrefix(folder, "~/")
		parts := strings.Split(strings.TrimSuffix(rest, "/"), "/")
		if !home {
			parts = strings.Split(strings.TrimSuffix(folder, "/"), "/")[1:]
		}
		odd := slices.ContainsFunc(parts, func(p string) bool { return p == "" || p == "." || p == ".." })
		want := (home || strings.HasPrefix(folder, "/")) && len(parts) > 0 && !odd && !strings.ContainsFunc(folder, func(r rune) bool { return r < ' ' || r == 0x7f || r == ':' })
		if (err == nil) != want {
			t.Errorf("%q: %v", folder, err)
		}
		if err != nil && strings.ContainsFunc(err.Error(), unicode.IsControl) {
			t.Errorf("error %q", errors.Unwrap(err))
		}
	})
}
