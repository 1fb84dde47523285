package hub

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// stalling is a client of a hub that begins each answer so and then says no more.
func stalling(t *testing.T, begin string) *client {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte(begin))
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}))
	s.StartTLS()
	t.Cleanup(s.Close)
	c, err := newClient(Job{Endpoint: s.URL}, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	c.http, c.idle = s.Client(), 20*time.Millisecond
	return c
}

// Whatever is asked for: an answer that stays away ends.
func TestAnswersThatStop(t *testing.T) {
	for _, begin := range []string{"", "["} {
		answersStop(t, stalling(t, begin))
	}
}

func answersStop(t *testing.T, c *client) {
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	want := Want{Repo: repo}
	f := &fetcher{ctx: t.Context(), client: c, store: &store{root: root}, job: Job{EncodingsURL: c.hub.String()}, meter: newMeter(nil),
		Options: Options{wait: func(context.Context, time.Duration) error { return errors.New("it was to be tried again") }}}
	defer f.meter.close()
	for name, ask := range map[string]func(ctx context.Context) error{
		"revision":   func(ctx context.Context) error { _, err := c.revision(ctx, want); return err },
		"tree":       func(ctx context.Context) error { _, err := c.tree(ctx, want, strings.Repeat("0", 40)); return err },
		"vocabulary": func(ctx context.Context) error { f.ctx = ctx; return f.vocabulary(Vocabularies()[0]) },
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second) // where nothing ends it
		err := ask(ctx)
		if again := name == "vocabulary" && err != nil && strings.Contains(err.Error(), "tried again"); !errors.Is(err, errIdle) && !again || ctx.Err() != nil {
			t.Errorf("%s: %v", name, err)
		}
		cancel()
	}
	if left, _ := filepath.Glob(dir + "/*/*"); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// What came for less than was asked is told in the same words.
func TestAnotherRangeIsTold(t *testing.T) {
	f := &fetcher{commit: "c"}
	a := &answer{Response: &http.Response{StatusCode: http.StatusPartialContent, Header: http.Header{"Content-Range": {"bytes 0-99/100"}}}}
	err := f.checkAnswer(a, File{Path: "x", Size: 100}, 5)
	if err == nil || !strings.Contains(err.Error(), `x: bytes 5 to 99 of 100 were asked for and "bytes 0-99/100" came`) {
		t.Errorf("got %v", err)
	}
}
