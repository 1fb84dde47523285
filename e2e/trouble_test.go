//go:build lab

package e2e_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/hub"
	"github.com/sallyport/sallyport/internal/lab"
)

const (
	standInImage = "sallyport-lab/vllm-stand-in:1"
	bigRepo      = "lab/big"
	drop         = 20 * time.Second // for which a link is away
)

// vllmStandIn builds the stand-in for vLLM, and returns the tar of an image that
// holds nothing else.
func vllmStandIn(t *testing.T) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "vllm")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", path, "../internal/vllm/cmd/vllm")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	program, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range []tar.Header{
		{Name: "tmp/", Mode: 0o1777, Typeflag: tar.TypeDir},
		{Name: "usr/bin/vllm", Mode: 0o755, Typeflag: tar.TypeReg, Size: int64(len(program))},
	} {
		err = errors.Join(err, w.WriteHeader(&h))
		if h.Size > 0 {
			_, werr := w.Write(program)
			err = errors.Join(err, werr)
		}
	}
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// setUpStandIn is setUpModel with a model that the stand-in for vLLM serves on the
// GPU host's Docker; env are its settings.
func setUpStandIn(t *testing.T, env ...string) *modelUser {
	t.Helper()
	m := setUpModel(t, gpuLab(t, lab.GPUDocker28), "")
	m.loadStandIn(vllmStandIn(t))
	m.hub.Add(hub.Repo{Name: bigRepo, Files: []hub.File{
		{Path: "config.json", Data: []byte(`{"model_type": "stand-in"}`)},
		{Path: "model-00000-of-00001.safetensors", Data: bytes.Repeat([]byte("weights "), 1<<17), LFS: true},
		{Path: "model-00001-of-00001.safetensors", Data: bytes.Repeat([]byte("and more"), 1<<17), LFS: true},
	}})
	path := filepath.Join(m.lab.Laptop.Home, ".config/sallyport/config.yaml")
	config, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range env {
		env[i] = `"` + env[i] + `"`
	}
	entry := fmt.Sprintf("models:\n  - {name: big, model: %s, engine: vllm, image: %s, host: strix, context: 131072, env: [%s]}\n",
		bigRepo, standInImage, strings.Join(env, ", "))
	m.write(path, strings.Replace(string(config), "models:\n", entry, 1))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(m.ctx), time.Minute)
		defer cancel()
		m.end(ctx, "big")
	})
	return m
}

func (m *modelUser) loadStandIn(image []byte) {
	m.Helper()
	if err := m.lab.GPUHost.ImportImage(m.ctx, standInImage, bytes.NewReader(image)); err != nil {
		m.Fatal(err)
	}
}

// kill ends the server on the GPU host as the kernel does when memory runs out.
func (m *modelUser) kill() {
	m.Helper()
	if out, err := m.lab.GPUHost.CommandRoot(m.ctx, "pkill", "-KILL", "-f", "/usr/bin/vllm serve|^vllm serve").CombinedOutput(); err != nil {
		m.Fatalf("%v: %s", err, out)
	}
}

// long is an answer that streams for a while at the stand-in's pace.
const long = `VLLM_STANDIN_TURNS=[{\"Text\": \"` + `one two three four five six seven eight nine ten eleven twelve turn-complete-{n}.` + `\"}]`

// A server that dies in the middle of an answer: the agent gets an error that says
// so, the state is failed, and the same agent goes on when it is back.
func TestServerDiesMidStream(t *testing.T) {
	m := setUpStandIn(t, "VLLM_STANDIN_PACE=400ms", long)
	m.must([]string{"pull", "big"})
	s := m.terminal("launcher", "claude", "big")
	s.expect(ready)
	s.send("count for me")
	s.expect("count")
	s.send("\r")
	s.expect(`three`)
	m.kill()
	s.expect(`(?i)error|broke off|retry`)
	m.eventually("the state of a server that was killed", func() error {
		out, err := m.launcher("status")
		if err == nil && !strings.Contains(out, "failed") {
			err = errors.New(out)
		}
		return err
	})
	m.must([]string{"serve", "big"}, `big is ready on strix`)
	s.expect(`turn-complete-\d+`)
	s.leave()
	if code := s.end(); code != 0 {
		t.Errorf("exit code %d\n%s", code, s.Text())
	}
}

// away pulls the cable to the GPU host for as long as drop.
func (m *modelUser) away() {
	m.Helper()
	if err := m.lab.SetLAN(m.ctx, false); err != nil {
		m.Fatal(err)
	}
	gone := time.NewTimer(drop) // the scenario itself; nothing is waited for
	select {
	case <-gone.C:
	case <-m.ctx.Done():
	}
	if err := m.lab.SetLAN(m.ctx, true); err != nil {
		m.Fatal(err)
	}
}

// The link is away for 20 s while the model loads: the launcher goes on when it
// is back, and the server never noticed.
func TestLinkDropsMidLoad(t *testing.T) {
	m := setUpStandIn(t, "VLLM_STANDIN_DELAY=3s")
	m.must([]string{"pull", "big"})
	s := m.terminal("launcher", "serve", "big")
	s.expect(`(?i)weights`)
	m.away()
	s.expect(`big is ready on strix`)
	if code := s.end(); code != 0 {
		t.Errorf("exit code %d\n%s", code, s.Text())
	}
	t.Logf("the screen:\n%s", s.Text())
}

// The same in the middle of an answer: the turn is completed, by the stream that
// survived or by the agent's next attempt.
func TestLinkDropsMidStream(t *testing.T) {
	m := setUpStandIn(t, "VLLM_STANDIN_PACE=400ms", long)
	m.must([]string{"pull", "big"})
	s := m.terminal("launcher", "claude", "big")
	s.expect(ready)
	s.send("count for me")
	s.expect("count")
	s.send("\r")
	s.expect(`three`)
	m.away()
	s.expect(`turn-complete-\d+`)
	m.must([]string{"status"}, `big.*ready`)
	s.leave()
	if code := s.end(); code != 0 {
		t.Errorf("exit code %d\n%s", code, s.Text())
	}
}

// The GPU host's disk fills during a pull: that is said, what was downloaded
// stays, and the next pull goes on from there.
func TestDiskFullDuringPull(t *testing.T) {
	m := setUpModel(t, gpuLab(t, lab.GPUDocker28), "")
	disk := "/home/" + lab.UserName + "/.cache/huggingface"
	g := m.lab.GPUHost
	host := func(name string, args ...string) {
		t.Helper()
		if out, err := g.CommandRoot(context.WithoutCancel(m.ctx), name, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s %v: %v %s", name, args, err, out)
		}
	}
	host("install", "-d", "-o", lab.UserName, "-g", lab.UserName, filepath.Dir(disk), disk)
	host("mount", "-t", "tmpfs", "-o", "size=160m,mode=755", "tmpfs", disk)
	t.Cleanup(func() { host("umount", disk) })
	host("chown", lab.UserName+":"+lab.UserName, disk)
	hold := make(chan struct{})
	big := bytes.Repeat([]byte("0123456789abcdef"), 2<<20) // 32 MiB
	m.hub.Add(hub.Repo{Name: bigRepo, Files: []hub.File{
		{Path: "config.json", Data: []byte(`{"model_type": "stand-in"}`)}, {Path: "model.safetensors", Data: big, LFS: true}}})
	m.hub.Break(hub.Fault{Path: "model.safetensors", Cut: 8 << 20, Hold: hold})
	path := filepath.Join(m.lab.Laptop.Home, ".config/sallyport/config.yaml")
	config, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	m.write(path, strings.Replace(string(config), "models:\n", fmt.Sprintf("models:\n  - {name: big, model: %s, engine: vllm, image: %s, host: strix, context: 131072}\n", bigRepo, standInImage), 1))
	s := m.terminal("launcher", "pull", "big")
	m.eventually("the download's first part", func() error {
		if n := m.hub.Counts()["bytes"]; n < 8<<20 {
			return fmt.Errorf("%d bytes sent; the screen:\n%s", n, s.Text())
		}
		return nil
	})
	host("sh", "-c", "head -c 160m /dev/zero >"+disk+"/filler; true") // until it is full
	close(hold)
	s.expect(`(?i)disk of ` + disk + ` is full`)
	if code := s.end(); code == 0 {
		t.Errorf("exit code 0\n%s", s.Text())
	}
	m.mustFail([]string{"serve", "big"}, `launcher pull big`)
	host("rm", disk+"/filler")
	before := m.hub.Counts()["bytes"]
	m.must([]string{"pull", "big"}, `weights`)
	if n := m.hub.Counts()["bytes"] - before; n > len(big)-(4<<20) {
		t.Errorf("the second pull fetched %d bytes of %d: it began anew", n, len(big))
	}
}

// An image that was removed: said at once, with what to do; and it works again
// when the image is back.
func TestImageRemoved(t *testing.T) {
	m := setUpStandIn(t)
	m.must([]string{"pull", "big"})
	m.must([]string{"serve", "big"}, `big is ready on strix`)
	m.must([]string{"stop", "big"})
	if out, err := m.lab.GPUHost.CommandRoot(m.ctx, "docker", "rmi", "-f", standInImage).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	m.mustFail([]string{"serve", "big"}, standInImage, `hint:`)
	m.must([]string{"status"}, `big.*(stopped|absent)`)
	m.loadStandIn(vllmStandIn(t))
	m.must([]string{"serve", "big"}, `big is ready on strix`)
}

// A server that cannot start says why, in its own words, and what to do.
func TestServerFailsToStart(t *testing.T) {
	for fault, says := range map[string][]string{
		"oom":      {`(?i)memory`, `hint:`},
		"nodevice": {`(?i)device|GPU`, `hint:`},
	} {
		t.Run(fault, func(t *testing.T) {
			m := setUpStandIn(t, "VLLM_STANDIN_FAIL="+fault)
			m.must([]string{"pull", "big"})
			m.mustFail([]string{"serve", "big"}, says...)
			m.must([]string{"status"}, `big.*failed`)
		})
	}
}
