package peer

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/bench/load"
)

// The load's jobs about ways find at the far end what they ask for.
func TestFarEnd(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "far.sock")
	l, err := listenAt(t.Context(), "unix:"+socket)
	if err != nil {
		t.Fatal(err)
	}
	front, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	go func() {
		ended <- serveAll(ctx, []net.Listener{l}, func(_ context.Context, c net.Conn) error { return answer(c) })
	}()
	go func() { // as Tunnel does, without SSH
		ended <- serveAll(ctx, []net.Listener{front}, func(_ context.Context, c net.Conn) error {
			far, err := net.Dial("unix", socket)
			if err != nil {
				return err
			}
			return join(c, far)
		})
	}()
	for job, arg := range map[string]load.WayArg{
		"ssh-round-trips": {Clients: 3, N: 20}, "ssh-channels": {Clients: 3, N: 20}, "ssh-bulk": {Clients: 3, N: 1<<20 + 1},
	} {
		for _, up := range []bool{false, true} {
			arg.Address, arg.Up = front.Addr().String(), up
			var rate load.Rate
			work(t, job, arg, &rate)
			if want := int64(arg.N) * int64(arg.Clients); rate.N != want || rate.NS <= 0 {
				t.Errorf("%s: %d in %d ns, want %d", job, rate.N, rate.NS, want)
			}
		}
	}
	cancel()
	for range 2 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// work has a worker do one job.
func work(t *testing.T, job string, arg, answer any) {
	t.Helper()
	text, err := json.Marshal(arg)
	if err != nil {
		t.Fatal(err)
	}
	request, err := json.Marshal(load.Request{ID: 1, Job: job, Arg: text})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := load.Work(t.Context(), bytes.NewReader(request), &out); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	var a load.Answer
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &a); err != nil {
		t.Fatal(err)
	}
	if a.Error != "" {
		t.Fatalf("%s: %s", job, a.Error)
	}
	if err := json.Unmarshal(a.Value, answer); err != nil {
		t.Fatal(err)
	}
}
