package proxy

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport/sallyport/policy"
)

// flushCounter counts how often something is sent on.
type flushCounter struct {
	http.ResponseWriter
	n int
}

func (f *flushCounter) Flush() { f.n++ }

// flushesOf is how often something is sent on of a stream whose first piece comes
// after a while: until it comes, and in all.
func flushesOf(t *testing.T, after time.Duration) (until, all int) {
	t.Helper()
	f := &flushCounter{ResponseWriter: httptest.NewRecorder()}
	f.Header().Set("Content-Type", "text/event-stream")
	s := newStream(f, &model{Model: Model{PingAfter: time.Hour, maxSilence: time.Hour}}, func() {})
	defer s.end()
	s.WriteHeader(http.StatusOK)
	time.Sleep(after) // the bubble's clock
	synctest.Wait()
	until = f.n
	if _, err := s.Write([]byte(eventDelta)); err != nil {
		t.Error(err)
	}
	time.Sleep(2 * headPause)
	synctest.Wait()
	return until, f.n
}

func TestHeadIsSentWithTheFirstPieceOrAfterAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if until, all := flushesOf(t, 0); until != 0 || all != 1 {
			t.Errorf("the first piece came at once: %d before it and %d in all, want 0 and 1", until, all)
		}
		if until, all := flushesOf(t, headPause); until != 1 || all != 2 {
			t.Errorf("the first piece came late: %d before it and %d in all, want 1 and 2", until, all)
		}
	})
}

// A pause before the head must not put off pings, nor the end of patience.
func TestHeadPauseLeavesTheSilencesAsTheyAre(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		f := &flushCounter{ResponseWriter: httptest.NewRecorder()}
		f.Header().Set("Content-Type", "text/event-stream")
		gaveUp := make(chan time.Duration, 1)
		s := newStream(f, &model{Model: Model{PingAfter: time.Second, maxSilence: 2500 * time.Millisecond}}, func() { gaveUp <- time.Since(begin) })
		defer s.end()
		s.WriteHeader(http.StatusOK)
		if after := <-gaveUp; after != 2500*time.Millisecond || f.n != 3 {
			t.Errorf("given up after %v, and sent something %d times; want 2.5s, and the head and 2 pings", after, f.n)
		}
	})
}

// firstWrite is what reaches the model server in the first write of a request.
func firstWrite(t *testing.T, body string) string {
	t.Helper()
	near, far := net.Pipe()
	up := newUpstream(func(context.Context) (net.Conn, error) { return near, nil }, true)
	q := &request{endpoint: policy.Endpoint{Method: "POST", Path: "/v1/messages"}, body: []byte(body)}
	ended := make(chan error, 1)
	go func() {
		_, err := up.RoundTrip((&model{}).rewrite(t.Context(), httptest.NewRequest("POST", "/v1/messages", nil), q))
		ended <- err
	}()
	buf := make([]byte, 64<<10)
	n, err := far.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	_ = far.Close()
	if err := <-ended; err == nil {
		t.Error("an answer came from nowhere")
	}
	return string(buf[:n])
}

func TestShortRequestIsOneWrite(t *testing.T) {
	short := strings.Repeat("x", 500)
	if got := firstWrite(t, short); !strings.HasSuffix(got, "\r\n\r\n"+short) {
		t.Errorf("the first write of a short request is %q", got)
	}
	if got := firstWrite(t, strings.Repeat("x", oneWrite+1)); len(got) > oneWrite {
		t.Errorf("%d bytes in one write, want %d at most", len(got), oneWrite)
	}
}

// A long body is not held as long as its answer takes, a short one may be.
func TestBodyOf(t *testing.T) {
	for _, n := range []int{0, 1, oneWrite, oneWrite + 1} {
		b := bodyOf([]byte(strings.Repeat("x", n)))
		if _, held := b.(*sentBody); held != (n > oneWrite) {
			t.Errorf("a body of %d bytes is a %T", n, b)
		}
		if got, err := io.ReadAll(b); len(got) != n || err != nil {
			t.Errorf("%d bytes of %d, %v", len(got), n, err)
		}
	}
}
