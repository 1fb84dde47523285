package main

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestServerScripts starts model servers as processes of this machine: the real
// runner in namespaces of its own, and a stand-in for vLLM.
func TestServerScripts(t *testing.T) {
	bin := t.TempDir()
	if err := buildServers(bin); err != nil {
		t.Fatal(err)
	}
	runScriptsWith(t, "testdata/server", "/tmp", func(e *testscript.Env) error {
		e.Setenv("PATH", bin+":"+e.Getenv("PATH"))
		e.Defer(func() { // where a script has not come to its end
			_ = cleanUp(e.Vars, filepath.Join(bin, "asuser"), "launcher", "stop", "own", "--force") // a script may have no model of that name
		})
		return setUpScript(e)
	})
}

// buildServers makes a folder with the real programs. The launcher is this test,
// which finds the gateway beside it.
func buildServers(bin string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	text, err := os.ReadFile(self)
	if err != nil {
		return err
	}
	for dir := bin; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) { // the scripts' user has to get there
		err = errors.Join(err, os.Chmod(dir, 0o755))
	}
	for _, name := range []string{"launcher", "asuser"} {
		err = errors.Join(err, os.WriteFile(filepath.Join(bin, name), text, 0o755))
	}
	for name, pkg := range map[string]string{"gateway": "../gateway", "vllm": "../../internal/vllm/cmd/vllm"} {
		build := exec.Command("go", "build", "-trimpath", "-o", filepath.Join(bin, name), pkg)
		build.Env, build.Stderr = append(os.Environ(), "CGO_ENABLED=0"), os.Stderr
		err = errors.Join(err, build.Run())
	}
	return err
}

// closedPort sets a variable to a TCP port of loopback where nobody listens.
func closedPort(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: closedport VARIABLE")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	_, port, err := net.SplitHostPort(l.Addr().String())
	ts.Check(errors.Join(err, l.Close()))
	ts.Setenv(args[0], port)
}

// weights makes a folder like the hub's cache: weights DIR ORG/NAME FILE….
func weights(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: weights DIR ORG/NAME FILE…")
	}
	const commit = "0123456789abcdef0123456789abcdef01234567"
	org, name := filepath.Split(args[1])
	repo := filepath.Join(ts.MkAbs(args[0]), "hub", fmt.Sprintf("models--%s--%s", filepath.Clean(org), name))
	snapshot := filepath.Join(repo, "snapshots", commit)
	for _, dir := range []string{filepath.Join(repo, "refs"), filepath.Join(repo, "blobs"), snapshot} {
		ts.Check(os.MkdirAll(dir, 0o755))
	}
	ts.Check(os.WriteFile(filepath.Join(repo, "refs", "main"), []byte(commit), 0o644))
	for i, file := range args[2:] {
		blob := fmt.Sprintf("%040d", i)
		ts.Check(os.WriteFile(filepath.Join(repo, "blobs", blob), []byte("{}"), 0o644))
		ts.Check(os.Symlink(filepath.Join("../../blobs", blob), filepath.Join(snapshot, file)))
	}
	ts.Check(chownAll(ts.Getenv("WORK")))
}

// vllmImage gives the engine an image with nothing but the stand-in for vLLM, as
// if it had been pulled: vllmimage NAME.
func vllmImage(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: vllmimage NAME")
	}
	program := filepath.Join(ts.Getenv("WORK"), "vllm")
	build := exec.Command("go", "build", "-trimpath", "-o", program, "../../internal/vllm/cmd/vllm")
	build.Env, build.Stderr = append(os.Environ(), "CGO_ENABLED=0"), os.Stderr
	ts.Check(build.Run())
	text, err := os.ReadFile(program)
	ts.Check(errors.Join(err, os.Remove(program)))
	var image bytes.Buffer
	w := tar.NewWriter(&image)
	for _, dir := range []string{"usr/", "usr/bin/", "tmp/"} {
		ts.Check(w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755}))
	}
	ts.Check(w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "usr/bin/vllm", Mode: 0o755, Size: int64(len(text))}))
	_, err = w.Write(text)
	ts.Check(errors.Join(err, w.Close()))
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", strings.TrimPrefix(os.Getenv(engineEnv), "unix://"))
	}}}
	res, err := client.Post("http://docker/images/create?fromSrc=-&changes=ENV+PATH=/usr/bin&repo="+url.QueryEscape(args[0]), "application/x-tar", &image)
	ts.Check(err)
	said, err := io.ReadAll(res.Body)
	ts.Check(errors.Join(err, res.Body.Close()))
	if res.StatusCode != http.StatusOK || strings.Contains(string(said), "errorDetail") {
		ts.Fatalf("%s: %s", res.Status, said)
	}
}
