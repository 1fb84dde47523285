package server

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/machine"
	"github.com/sallyport/sallyport/models"
)

// launch is the demo's stand-in as a process.
func (h *host) launch(argv ...string) models.Launch {
	if argv == nil {
		argv = []string{h.binary, "demo-model", "--socket", filepath.Join(h.folder, "server.sock")}
	}
	return models.Launch{Name: "it's", Runner: []string{h.binary, "model-run", "--folder", h.folder, "--netns", "--by", "me@laptop", "--idle-stop", "30m0s", "--"},
		Argv: argv, Env: []string{"HOME=" + h.folder + "/home", "NAME=with space's"}, WorkDir: h.folder + "/home", Socket: h.folder + "/model.sock"}
}

// patient bounds what must happen soon; no test waits for it to pass.
func patient(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// healthy waits until /health answers 200 over m.
func (h *host) healthy(t *testing.T, m *machine.Machine) {
	t.Helper()
	ctx := patient(t)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return m.Dial(ctx, "unix", filepath.Join(h.folder, "model.sock"))
	}}}
	for ctx.Err() == nil { // another process is looked at
		req, err := http.NewRequestWithContext(ctx, "GET", "http://model/health", nil)
		noErr(t, err)
		res, err := client.Do(req)
		noErr(t, err)
		res.Body.Close()
		if res.StatusCode == http.StatusOK {
			return
		}
	}
	t.Fatal("not healthy")
}

// ends stops what the test has left.
func ends(t *testing.T, r *ProcessRuntime) {
	t.Cleanup(func() {
		if err := r.Stop(context.Background(), time.Second); err != nil {
			t.Error(err)
		}
	})
}

func TestProcess(t *testing.T) {
	gateway := buildGateway(t)
	for name, f := range map[string]func(*testing.T, string){"life": testProcess, "surroundings": testProcessSurroundings, "fails": testProcessFails, "over SSH": testProcessOverSSH} {
		t.Run(name, func(t *testing.T) { f(t, gateway) })
	}
}

func testProcess(t *testing.T, gateway string) {
	h := newHost(t, gateway).somebody(t)
	m := h.here()
	r := NewProcessRuntime(m, h.folder, h.binary)
	ctx := patient(t)
	if st, err := r.State(ctx); err != nil || st.Phase != PhaseAbsent {
		t.Fatalf("%+v, %v", st, err)
	}
	noErr(t, r.Stop(ctx, time.Second))
	ends(t, r)
	noErr(t, r.Start(ctx, h.launch()))
	st, err := r.State(ctx)
	if err != nil || st.Phase != PhaseRunning || st.By != "me@laptop" || st.Launch != LaunchHash(h.launch()) || st.IdleStop != 30*time.Minute || st.Started.IsZero() {
		t.Fatalf("%+v, %v", st, err)
	}
	h.healthy(t, m)

	err = r.Start(ctx, h.launch("sleep", "1"))
	var running *RunningError
	if !errors.As(err, &running) || !errors.Is(err, ErrRunning) || running.By != "me@laptop" || !running.Other || running.Since.IsZero() {
		t.Errorf("%v", err)
	}
	if err = r.Start(ctx, h.launch()); !errors.As(err, &running) || running.Other {
		t.Errorf("%v", err)
	}

	log, err := r.Logs(ctx, true, -1)
	noErr(t, err)
	defer log.Close()
	lines := bufio.NewReader(log)
	if line, err := lines.ReadString('\n'); err != nil || !strings.Contains(line, "serving") {
		t.Errorf("%q, %v", line, err)
	}
	noErr(t, r.Stop(ctx, 30*time.Second))
	if _, err := io.ReadAll(lines); err != nil { // the log ends with the server
		t.Error(err)
	}
	st, err = r.State(ctx)
	if err != nil || st.Phase != PhaseExited || st.Why != WhyAsked || st.Ended.IsZero() {
		t.Errorf("%+v, %v", st, err)
	}
	if log, err := r.Logs(ctx, false, 1); err != nil {
		t.Error(err)
	} else if text, err := io.ReadAll(log); err != nil || strings.Count(string(text), "\n") != 1 {
		t.Errorf("%q, %v", text, err)
	} else if err := log.Close(); err != nil {
		t.Error(err)
	}

	// A newer launcher brings another binary: an older one there answers too.
	newer := NewProcessRuntime(m, h.folder, filepath.Join(filepath.Dir(h.binary), "gateway-1"))
	if again, err := newer.State(ctx); err != nil || again != st {
		t.Errorf("%+v, %v", again, err)
	}
}

// What the server finds: its login's PATH, what the launch says, and no more.
func testProcessSurroundings(t *testing.T, gateway string) {
	h := newHost(t, gateway).somebody(t)
	r := NewProcessRuntime(h.here(), h.folder, h.binary)
	ctx := patient(t)
	ends(t, r)
	noErr(t, r.Start(ctx, h.launch("sh", "-c", `env; pwd; cat /proc/net/dev; grep -E '^(Uid|Cap|NoNew)' /proc/self/status; umask`)))
	log, err := r.Logs(ctx, true, -1)
	noErr(t, err)
	defer log.Close()
	text, err := io.ReadAll(log)
	noErr(t, err)
	said := strings.Split(string(text), "\n")
	for _, want := range []string{"NAME=with space's", "HOME=" + h.folder + "/home", "PATH=" + os.Getenv("PATH"), h.folder + "/home", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "0077",
		fmt.Sprintf("Uid:\t%d\t%[1]d\t%[1]d\t%[1]d", h.uid)} {
		if !slices.Contains(said, want) {
			t.Errorf("no line %q in\n%s", want, text)
		}
	}
	for _, bad := range []string{"SSH_AUTH_SOCK", "AWS_SECRET", "eth0"} {
		if strings.Contains(string(text), bad) {
			t.Errorf("%s in\n%s", bad, text)
		}
	}
}

func testProcessFails(t *testing.T, gateway string) {
	h := newHost(t, gateway).somebody(t)
	r := NewProcessRuntime(h.here(), h.folder, h.binary)
	ctx := patient(t)
	err := r.Start(ctx, h.launch("no-such-server"))
	if err == nil || !strings.Contains(err.Error(), "start model server it's on this machine: find the model server no-such-server") || !strings.Contains(err.Error(), "hint: is it installed") {
		t.Errorf("%v", err)
	}
	st, err := r.State(ctx)
	if err != nil || st.Phase != PhaseExited || st.ExitCode != 127 || !strings.Contains(st.Why, "no-such-server") {
		t.Errorf("%+v, %v", st, err)
	}
	for _, l := range []models.Launch{{}, {Container: true, Runner: h.launch().Runner, Argv: []string{"x"}, Socket: h.launch().Socket},
		{Runner: []string{"/bin/sh", "model-run", "--"}, Argv: []string{"x"}, Socket: h.launch().Socket}} {
		if err := r.Start(ctx, l); err == nil || !strings.Contains(err.Error(), "not one for a process") {
			t.Errorf("%v", err)
		}
	}
	noErr(t, os.Remove(h.binary))
	if _, err := r.State(ctx); err == nil || !strings.Contains(err.Error(), "none of our binaries") {
		t.Errorf("%v", err)
	}
}

// The server outlives the login that started it, and sshd itself.
func testProcessOverSSH(t *testing.T, gateway string) {
	h := newHost(t, gateway)
	ctx := patient(t)
	m, end := h.overSSH(t)
	noErr(t, NewProcessRuntime(m, h.folder, h.binary).Start(ctx, h.launch()))
	end()
	m, end = h.overSSH(t)
	defer end()
	r := NewProcessRuntime(m, h.folder, h.binary)
	st, err := r.State(ctx)
	if err != nil || st.Phase != PhaseRunning || st.By != "me@laptop" {
		t.Fatalf("%+v, %v", st, err)
	}
	h.healthy(t, m)
	log, err := r.Logs(ctx, true, 5)
	noErr(t, err)
	if line, err := bufio.NewReader(log).ReadString('\n'); err != nil || !strings.Contains(line, "serving") {
		t.Errorf("%q, %v", line, err)
	}
	noErr(t, log.Close()) // while the server goes on
	noErr(t, r.Stop(ctx, 30*time.Second))
	if st, err = r.State(ctx); err != nil || st.Phase != PhaseExited || st.Why != WhyAsked {
		t.Errorf("%+v, %v", st, err)
	}
}
