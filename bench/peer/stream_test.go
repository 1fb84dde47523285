package peer_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/bench/load"
	"github.com/sallyport/sallyport/bench/peer"
)

// run runs a program of the table until the test ends.
func run(t *testing.T, name string, args ...string) {
	t.Helper()
	program, ok := peer.Lookup(name)
	if !ok {
		t.Fatalf("there is no %s", name)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- program(ctx, args) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("%s: %v", name, err)
		}
	})
}

// free is an address of loopback that nobody listens at.
func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// job has a job done as a worker does it.
func job(t *testing.T, name string, arg, value any) (failure string) {
	t.Helper()
	raw, err := json.Marshal(arg)
	if err != nil {
		t.Fatal(err)
	}
	line, err := json.Marshal(load.Request{ID: 1, Job: name, Arg: raw})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := load.Work(t.Context(), bytes.NewReader(line), &out); err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(&out)
	var a load.Answer
	for a.ID != 1 {
		if err := d.Decode(&a); err != nil {
			t.Fatal(err)
		}
	}
	if a.Error == "" {
		if err := json.Unmarshal(a.Value, value); err != nil {
			t.Fatal(err)
		}
	}
	return a.Error
}

// reachable waits until something accepts at addr.
func reachable(t *testing.T, network, addr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		c, err := new(net.Dialer).DialContext(ctx, network, addr)
		if err == nil {
			c.Close()
			return
		}
		if ctx.Err() != nil {
			t.Fatal(err)
		}
	}
}

func TestStreamsThroughReverseProxy(t *testing.T) {
	dir := t.TempDir()
	socket, at := filepath.Join(dir, "o.sock"), free(t)
	run(t, "origin", "-listen", "unix:"+socket)
	run(t, "reverseproxy", "-duplex", "-listen", "tcp:"+at, "-origin", "unix:"+socket, "-log", filepath.Join(dir, "log")) // without, it cuts some
	reachable(t, "unix", socket)
	reachable(t, "tcp", at)
	var times load.EventTimes
	if failed := job(t, "events", load.EventsArg{URL: "http://" + at, Streams: 3, Deltas: 20, Every: time.Millisecond, Warm: 5}, &times); failed != "" {
		t.Fatal(failed)
	}
	if times.N != 3*15 || times.P50 <= 0 || times.P99 < times.P50 || times.Max < times.P99 {
		t.Errorf("times are %+v", times)
	}
	var b load.Burst
	if failed := job(t, "burst", load.BurstArg{URL: "http://" + at, N: 50, Clients: 3}, &b); failed != "" {
		t.Fatal(failed)
	}
	if b.Done != 50 || b.Lost+b.Cut+b.Wrong != 0 {
		t.Errorf("burst is %+v", b)
	}
	var held load.Held
	if failed := job(t, "hold", load.HoldArg{URL: "http://" + at, Streams: 5, For: time.Minute}, &held); failed != "" || held.Open != 5 {
		t.Errorf("held %+v, %s", held, failed)
	}
}

// What a proxy does to a stream is told apart.
func TestBurstSeesFailures(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "o.sock")
	run(t, "origin", "-listen", "unix:"+socket)
	reachable(t, "unix", socket)
	for name, c := range map[string]struct {
		change func(b []byte) ([]byte, error)
		status int
		want   load.Burst
	}{
		"whole":   {want: load.Burst{Done: 1}},
		"refused": {status: 502, want: load.Burst{Lost: 1}},
		"cut":     {change: func(b []byte) ([]byte, error) { return b[:len(b)-1], http.ErrAbortHandler }, want: load.Burst{Cut: 1}},
		"no end":  {change: func(b []byte) ([]byte, error) { return b, http.ErrAbortHandler }, want: load.Burst{Cut: 1}},
		"ended":   {change: func(b []byte) ([]byte, error) { return b[:len(b)-1], nil }, want: load.Burst{Cut: 1}},
		"more":    {change: func(b []byte) ([]byte, error) { return append(b, '\n'), nil }, want: load.Burst{Wrong: 1}},
		"one event": {change: func(b []byte) ([]byte, error) {
			return bytes.Replace(b, []byte(`"text":"0 `), []byte(`"text":"1 `), 1), nil
		}, want: load.Burst{Wrong: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: "origin"})
			proxy.Transport = &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "unix", socket)
			}}
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if c.status != 0 {
					w.WriteHeader(c.status)
					return
				}
				answer := httptest.NewRecorder()
				in := r.Clone(r.Context())
				in.Body, in.ContentLength = http.NoBody, 0
				proxy.ServeHTTP(answer, in)
				text, err := answer.Body.Bytes(), error(nil)
				if c.change != nil {
					text, err = c.change(text)
				}
				_, _ = w.Write(text)
				if err != nil {
					_ = http.NewResponseController(w).Flush()
					panic(err)
				}
			}))
			defer srv.Close()
			var b load.Burst
			if failed := job(t, "burst", load.BurstArg{URL: srv.URL, N: 1, Clients: 1, Seed: 3}, &b); failed != "" {
				t.Fatal(failed)
			}
			if (b.First == "") != (b.Done == 1) || strings.Contains(b.First, "%!") {
				t.Errorf("first failure %q of %+v", b.First, b)
			}
			if b.First, b.Seconds = "", 0; b != c.want {
				t.Errorf("%+v instead of %+v", b, c.want)
			}
		})
	}
}
