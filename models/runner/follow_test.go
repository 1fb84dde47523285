package runner

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestLastLines(t *testing.T) {
	dir := newFolder(t)
	for _, c := range []struct {
		text  string
		lines int
		want  string
	}{
		{"a\nb\nc\n", -1, "a\nb\nc\n"},
		{"a\nb\nc\n", 0, ""},
		{"a\nb\nc\n", 1, "c\n"},
		{"a\nb\nc\n", 2, "b\nc\n"},
		{"a\nb\nc\n", 3, "a\nb\nc\n"},
		{"a\nb\nc\n", 9, "a\nb\nc\n"},
		{"a\nb\nc", 2, "b\nc"},
		{"\n\n", 1, "\n"},
		{"", 3, ""},
		{strings.Repeat("x", maxLast+5), 1, strings.Repeat("x", maxLast)},
	} {
		ok(t, os.WriteFile(filepath.Join(dir, ServerLog), []byte(c.text), 0o600))
		var b strings.Builder
		ok(t, WriteLog(t.Context(), dir, &b, c.lines, true)) // no server runs
		if b.String() != c.want {
			t.Errorf("%.20q, %d: %.20q", c.text, c.lines, b.String())
		}
	}
	ok(t, os.Remove(filepath.Join(dir, ServerLog)))
	ok(t, WriteLog(t.Context(), dir, io.Discard, -1, true))
}

// A log is followed over its next file, until the server has ended.
func TestFollow(t *testing.T) {
	dir := newFolder(t)
	r := mustStart(t, Options{Folder: dir, NetNS: true}, server{Say: "first\n"})
	r.get("/health")
	read, write := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- WriteLog(t.Context(), dir, write, -1, true); write.Close() }()
	expect := func(want string) {
		t.Helper()
		got := make([]byte, len(want))
		if _, err := io.ReadFull(read, got); err != nil || string(got) != want {
			t.Fatalf("%.40q, %v", got, err)
		}
	}
	expect("first\n")
	big := strings.Repeat("0123456789abcde\n", 1<<19) // 8 MiB
	for range 3 {
		r.ask("POST", "/print", big)
		expect(big)
	}
	r.ask("POST", "/print", "last\n")
	r.signal(unix.SIGTERM)
	r.wait()
	if rest, err := io.ReadAll(read); err != nil || string(rest) != "last\n" {
		t.Errorf("%q, %v", rest, err)
	}
	ok(t, <-ended)
}

// A caller that goes ends the following.
func TestFollowCancelled(t *testing.T) {
	dir := newFolder(t)
	mustStart(t, Options{Folder: dir, NetNS: true}, server{})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- WriteLog(ctx, dir, io.Discard, 10, true) }()
	cancel()
	ok(t, <-ended)
}
