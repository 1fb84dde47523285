//go:build lab

package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/hub"
	"github.com/sallyport/sallyport/internal/lab"
)

// A model that two hosts serve: a session stays on one, and moves to the other
// when that is gone, between requests. The lab has one GPU host, so its engine is
// one of them and its processes the other.
func TestTwoHosts(t *testing.T) {
	m := setUpModel(t, gpuLab(t, lab.GPUDocker28), "")
	at := lab.UserName + "@" + lab.GPUHostLAN
	m.write(filepath.Join(m.lab.Laptop.Home, ".config/sallyport/config.yaml"), fmt.Sprintf(`hosts:
  - {name: strix1, ssh: %s, hardware: cpu, runtime: docker}
  - {name: strix2, ssh: %s, hardware: cpu, runtime: process, folder: /home/%s/.cache/sallyport-2}
models:
  - {name: tiny, model: %s, file: %s, engine: llama.cpp, image: %s, hosts: [strix1, strix2], context: 65536, args: [--threads, "2"]}
hub: {endpoint: "https://%s", hosts: [%s], ca: %s}
`, at, at, lab.UserName, tinyRepo, tinyFile, lab.LlamaImage, hub.Host, hub.CDNHost, filepath.Join(m.lab.Laptop.Home, "hub-ca.pem")))
	for _, host := range []string{"strix1", "strix2"} {
		m.must([]string{"pull", "tiny", "--host", host}, `weights`)
		m.must([]string{"serve", "tiny", "--host", host}, `tiny is ready on `+host)
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(m.ctx), time.Minute)
			defer cancel()
			m.end(ctx, "tiny", "--host", host)
		})
	}
	m.must([]string{"models"}, `tiny .*strix1 +ready`, `strix2 +ready`)
	s := m.terminal("launcher", "shell", "tiny")
	s.expect(`tiny at strix\d.*1 more to move to`)
	s.expect(`\$ `)
	id := m.sandboxID()
	ask := strings.Replace(question, "gpt-oss", "tiny", 1) + "\n"
	s.send(ask)
	s.expect(`status=200`)
	first := m.host(id)
	m.must([]string{"stop", "tiny", "--host", first, "--force"})
	s.send(ask)
	s.expect(`status=200`)
	if second := m.host(id); second == first {
		t.Errorf("it is still on %s, whose server was stopped", first)
	}
	moved := false
	for _, e := range m.events(id) {
		moved = moved || strings.Contains(e.Reason, "moved from "+first)
	}
	if !moved {
		t.Error("the move is not in the record")
	}
	s.send("exit\n")
	if code := s.end(); code != 0 {
		t.Errorf("exit code %d\n%s", code, s.Text())
	}
}

// host is the host that a sandbox's model is on, as status says.
func (m *modelUser) host(id string) (host string) {
	m.Helper()
	m.eventually("the sandbox's host", func() error {
		out, err := m.launcher("status")
		for line := range strings.Lines(out) {
			if strings.HasPrefix(line, "sandbox") && strings.Contains(line, id) {
				for _, name := range []string{"strix1", "strix2"} {
					if strings.Contains(line, "at "+name) {
						host = name
					}
				}
			}
		}
		if host == "" {
			return errors.Join(err, errors.New(out))
		}
		return nil
	})
	return host
}

// The whole chain is well, and doctor says so; and says what to do where it is not.
func TestDoctor(t *testing.T) {
	onRuntimes(t, func(t *testing.T, m *modelUser) {
		m.must([]string{"doctor"}, `warn weights`, `launcher pull tiny`)
		m.must([]string{"pull", "tiny"})
		m.must([]string{"serve", "tiny"})
		t.Log(m.must([]string{"doctor"}, `ok   server    ready`, `ok   network   none`, ` 0 warned about, 0 failed`))
		if err := m.lab.GPUHost.StopSSH(); err != nil {
			t.Fatal(err)
		}
		m.mustFail([]string{"doctor"}, `fail reach`, `[1-9]\d* failed`)
		if err := m.lab.GPUHost.StartSSH(m.ctx); err != nil {
			t.Fatal(err)
		}
	})
}
