package vllm

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// running is a stand-in that a test started, and its log so far.
type running struct {
	socket string
	client *http.Client
	stop   context.CancelFunc
	code   chan int

	mu    sync.Mutex
	lines []string
	more  chan struct{} // closed and replaced at every line
}

// model makes a folder that looks like weights.
func model(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"config.json", "model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors", "model-00003-of-00003.safetensors"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// start runs `vllm serve` on a unix socket of its own.
func start(t *testing.T, env map[string]string, dir string, args ...string) *running {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s.sock")
	ctx, stop := context.WithCancel(t.Context())
	r := &running{socket: socket, stop: stop, code: make(chan int, 1), more: make(chan struct{})}
	r.client = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	var readers sync.WaitGroup
	follow := func() io.WriteCloser {
		in, out := io.Pipe()
		readers.Go(func() {
			s := bufio.NewScanner(in)
			s.Split(splitLines)
			for s.Scan() {
				r.mu.Lock()
				r.lines = append(r.lines, s.Text())
				close(r.more)
				r.more = make(chan struct{})
				r.mu.Unlock()
			}
		})
		return out
	}
	stdout, stderr := follow(), follow()
	args = append([]string{"serve", dir, "--served-model-name", "m", "--uds", socket}, args...)
	refused := func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ENETUNREACH)}
	}
	go func() {
		code := Run(ctx, Command{Args: args, Getenv: func(k string) string { return env[k] }, Stdout: stdout, Stderr: stderr, Dial: refused})
		stdout.Close()
		stderr.Close()
		readers.Wait()
		r.code <- code
	}()
	t.Cleanup(func() {
		stop()
		r.client.CloseIdleConnections()
		<-r.code
	})
	return r
}

// splitLines ends a line at \n or \r, as tqdm writes them.
func splitLines(data []byte, atEOF bool) (int, []byte, error) {
	if i := bytes.IndexAny(data, "\r\n"); i >= 0 {
		return i + 1, data[:i], nil
	}
	if atEOF && len(data) > 0 {
		return len(data), data, nil
	}
	return 0, nil, nil
}

// wait returns once the log has a line with text in it.
func (r *running) wait(t *testing.T, text string) {
	t.Helper()
	for {
		r.mu.Lock()
		found, more := slices.ContainsFunc(r.lines, func(l string) bool { return strings.Contains(l, text) }), r.more
		r.mu.Unlock()
		if found {
			return
		}
		select {
		case <-more:
		case code := <-r.code:
			r.code <- code
			if !strings.Contains(r.log(), text) {
				t.Fatalf("ended with %d, without %q:\n%s", code, text, r.log())
			}
		case <-t.Context().Done():
			t.Fatalf("no %q", text)
		}
	}
}

func (r *running) log() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.lines, "\n")
}

func (r *running) ready(t *testing.T) { t.Helper(); r.wait(t, "Application startup complete.") }

func (r *running) ask(t *testing.T, method, path, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://m"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := r.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func (r *running) ended(t *testing.T) int {
	t.Helper()
	code := <-r.code
	r.code <- code
	return code
}

const hello = `{"model":"m","max_tokens":16,"messages":[{"role":"user","content":"hello"}]}`
