package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/config"
	"github.com/sallyport/sallyport/control"
	"github.com/sallyport/sallyport/machine"
	"github.com/sallyport/sallyport/models"
	"github.com/sallyport/sallyport/models/hub"
)

// aSite is this machine as a GPU host with a folder.
func aSite(folder string) *site {
	return &site{name: "gpu", settings: config.Machine{Folder: folder}, facts: machine.Facts{Home: "/home/me"},
		Machine: machine.Local(machine.LocalOptions{Home: os.TempDir(), UID: os.Getuid(), GID: os.Getgid(), Environ: os.Environ()})}
}

// Two pulls of one model on one machine do not touch each other's way out.
func TestWaysOutAreApart(t *testing.T) {
	dir, err := os.MkdirTemp("/tmp", "w")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := aSite(filepath.Join(dir, "base"))
	var removes []func() error
	for _, id := range []string{"pull-0123456789ab", "pull-ba9876543210"} {
		socket, err := s.wayOut(id)
		if err != nil {
			t.Fatal(err)
		}
		l, remove, err := s.listen(t.Context(), socket)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		removes = append(removes, remove)
		for _, folder := range []string{filepath.Dir(socket), filepath.Dir(filepath.Dir(socket))} {
			if info, err := os.Stat(folder); err != nil || info.Mode().Perm() != 0o700 {
				t.Errorf("%s: %v, %v", folder, info, err)
			}
		}
		if _, _, err := s.listen(t.Context(), socket); err == nil {
			t.Error("a way out that is used was taken over")
		}
	}
	first, _ := s.wayOut("pull-0123456789ab")
	second, _ := s.wayOut("pull-ba9876543210")
	if err := removes[0](); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Dir(first)); !errors.Is(err, os.ErrNotExist) {
		t.Error("the folder is left")
	}
	if _, err := os.Stat(second); err != nil {
		t.Error(err)
	}
	if err := removes[1](); err != nil {
		t.Error(err)
	}
}

func TestWayOutIsRefused(t *testing.T) {
	for _, id := range []string{"", "../x", "a/b", "a b", ".."} {
		if _, err := aSite("/b").wayOut(id); err == nil {
			t.Errorf("%q was taken", id)
		}
	}
	id := "pull-0123456789ab"
	fits := "/" + strings.Repeat("x", maxSocket-len("//pull/"+id+"/proxy.sock"))
	if socket, err := aSite(fits).wayOut(id); err != nil || len(socket) != maxSocket {
		t.Errorf("%d bytes, %v", len(socket), err)
	}
	if _, err := aSite(fits + "x").wayOut(id); err == nil || !strings.Contains(err.Error(), "hint: set hosts[].folder") {
		t.Error(err)
	}
}

// Nothing but the configuration gives a pull the machine's own network.
func TestPullWithoutWayOut(t *testing.T) {
	for _, pull := range []config.Pull{"", config.PullProxy} {
		m := model{Profile: models.Profile{Name: "own"}, pull: pull}
		a := &modelCommand{model: m}
		if _, err := a.runPull(t.Context(), &served{model: m}, hub.Job{}, control.PullReady{ID: "pull-1"}, nil); err == nil || !strings.Contains(err.Error(), "no way out") {
			t.Errorf("%q: %v", pull, err)
		}
	}
}

func TestOutcomeOfPull(t *testing.T) {
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	other := errors.New("disk full")
	for _, c := range []struct {
		ctx  context.Context
		err  error
		code int
		said string
	}{
		{t.Context(), nil, 0, ""},
		{gone, fmt.Errorf("%w: %w", control.ErrPullEnded, context.Canceled), exitInterrupted, "interrupted; launcher pull own goes on"},
		{t.Context(), fmt.Errorf("%w: %w", control.ErrPullEnded, context.Canceled), exitFailed, "the gateway ended"},
		{t.Context(), other, exitFailed, "disk full"},
	} {
		var b bytes.Buffer
		a := &modelCommand{model: model{Profile: models.Profile{Name: "own"}}, progress: newProgress(&b, false, false)}
		err := a.outcome(c.ctx, c.err)
		said := b.String() + fmt.Sprint(err)
		if exitCode(c.ctx, err) != c.code || !strings.Contains(said, c.said) {
			t.Errorf("%v: %q, %d", c.err, said, exitCode(c.ctx, err))
		}
		if c.said == "the gateway ended" && !strings.Contains(said, "launcher pull own goes on where it ended") {
			t.Errorf("%q", said)
		}
	}
}

// What servers use is where the machine's own look finds it.
func TestOwnFolders(t *testing.T) {
	for _, c := range []struct{ env, weights, want string }{
		{"", "", "/home/me/.cache/huggingface"},
		{"XDG_CACHE_HOME=/big", "", "/big/huggingface"},
		{"HF_HOME=~/hf", "", "/home/me/hf"},
		{"HF_HOME=/data/hf/", "", "/data/hf"},
		{"HF_HOME=/data/hf", "~/w/", "/home/me/w"},
	} {
		o := &options{process: process{environ: []string{c.env}}}
		got := o.ownFolders(&config.Config{Local: config.Machine{Weights: c.weights}}, caller{home: "/home/me"})
		if len(got) != 2 || got[0] != "/home/me/.cache/sallyport" || got[1] != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
}
