package proxy

import (
	"bytes"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// copying is an eventScanner that keeps each line before it looks at it, as the
// first one did: the oracle of the one that looks at lines where they are.
type copying struct{ eventScanner }

func (s *copying) feed(p []byte) {
	for _, c := range p {
		switch {
		case s.cr && c == '\n':
			s.cr = false
		case c == '\n' || c == '\r':
			s.cr = c == '\r'
			s.inEvent = s.bytes
			if data, ok := bytes.CutPrefix(s.line, []byte("data:")); ok && !s.over {
				s.data(data)
			}
			s.line, s.over, s.bytes = s.line[:0], false, false
		default:
			s.cr = false
			s.keep([]byte{c})
		}
	}
}

var streamSeeds = []string{
	eventStart + eventDelta + eventEnd, ": ping\n\nid: 7\n", "event: error\ndata: {\"error\":{\"message\":\"x\"}}\n\n",
	strings.ReplaceAll(eventDelta+eventEnd, "\n", "\r\n"), strings.ReplaceAll(eventDelta, "\n", "\r"), "data\r\n\r\r\n\n\rx",
	"  event : error\n d a t a:{", "data:" + strings.Repeat("x", maxEventLine) + "\"content_block_\"\n" + eventEnd, "\n\r\n", "e", "data: {\"er",
	`data: {"error":{"type":"exceed_context_size_error","message":"x","n_prompt_tokens":9000,"n_ctx":8192}}` + "\n\n" + eventDelta,
}

// However a stream is cut, what is read out of it where it lies is what is read out
// of it by way of a copy, after each piece.
func FuzzEventsInPlace(f *testing.F) {
	for _, s := range streamSeeds {
		f.Add([]byte(s), uint16(9))
		f.Add([]byte(s), uint16(1<<16-1))
	}
	f.Fuzz(func(t *testing.T, b []byte, step uint16) {
		var fast eventScanner
		var slow copying
		fast.now = time.Unix(1, 0)
		slow.now = fast.now
		for p := range slices.Chunk(b, int(step)+1) {
			fast.feed(p)
			slow.feed(p)
			if fast.usage != slow.usage || fast.boundary() != slow.boundary() || fast.stopped != slow.stopped || fast.cr != slow.cr {
				t.Fatalf("after %q of %q: %+v, by copy %+v", p, b, fast, slow)
			}
		}
	})
}

// However a stream is cut, what passes of it without a copy is what feed makes of
// it, and comes as soon.
func FuzzErrorEventsPlain(f *testing.F) {
	for _, s := range streamSeeds {
		f.Add([]byte(s), uint16(9))
		f.Add([]byte(s), uint16(1<<16-1))
	}
	f.Fuzz(func(t *testing.T, b []byte, step uint16) {
		var found, foundByCopy int
		quick := &errorEvents{found: func(overflow) { found++ }}
		byCopy := &errorEvents{found: func(overflow) { foundByCopy++ }}
		for p := range slices.Chunk(b, int(step)+1) {
			quick.out, byCopy.out = nil, nil
			if quick.plain(p) {
				quick.out = p
			} else {
				quick.feed(p)
			}
			byCopy.feed(p)
			if !bytes.Equal(quick.out, byCopy.out) || !bytes.Equal(quick.line, byCopy.line) || found != foundByCopy ||
				quick.passed != byCopy.passed || quick.isError != byCopy.isError || quick.cr != byCopy.cr {
				t.Fatalf("%q of %q became %q, by copy %q", p, b, quick.out, byCopy.out)
			}
		}
	})
}

// Which lines are looked at is the same with their blanks taken out first.
func FuzzAlike(f *testing.F) {
	for _, line := range []string{"", " ", "event: error", "event:errors", "data: { \"type\":\"error\"", "data:{\"t", "id", strings.Repeat(" ", 64) + "event:error"} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		head := string(bytes.ReplaceAll(line[:min(len(line), 64)], []byte(" "), nil))
		for _, start := range errorStarts {
			if want := strings.HasPrefix(head, start) || strings.HasPrefix(start, head); alike(line, start) != want {
				t.Errorf("%q and %q: %v", line, start, !want)
			}
		}
	})
}

// quietWriter is a response that nobody reads.
type quietWriter struct{ head http.Header }

func (w quietWriter) Header() http.Header              { return w.head }
func (w quietWriter) WriteHeader(int)                  {}
func (w quietWriter) Write(p []byte) (int, error)      { return len(p), nil }
func (w quietWriter) FlushError() error                { return nil }
func (w quietWriter) SetWriteDeadline(time.Time) error { return nil }

// again reads the same piece with every Read.
type again struct{ piece string }

func (a *again) Read(p []byte) (int, error) { return copy(p, a.piece), nil }
func (a *again) Close() error               { return nil }

func newQuietStream(tb testing.TB) *stream {
	tb.Helper()
	s := newStream(quietWriter{http.Header{"Content-Type": {"text/event-stream"}}}, &model{Model: Model{PingAfter: time.Hour, maxSilence: time.Hour}}, func() {})
	tb.Cleanup(func() { s.end() })
	s.WriteHeader(http.StatusOK)
	return s
}

// An event of a stream allocates nothing on its way.
func TestEventAllocatesNothing(t *testing.T) {
	s := newQuietStream(t)
	body := &errorEvents{ReadCloser: &again{eventDelta}, found: func(overflow) { t.Error("found") }}
	buf := make([]byte, smallRead)
	allocs := testing.AllocsPerRun(1000, func() {
		n, err := body.Read(buf)
		if err == nil {
			_, err = s.Write(buf[:n])
		}
		if err != nil || n != len(eventDelta) {
			t.Fatal(n, err)
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations for an event", allocs)
	}
}

// BenchmarkStreamEvent is what the endpoint itself does for an event.
func BenchmarkStreamEvent(b *testing.B) {
	s := newQuietStream(b)
	body := &errorEvents{ReadCloser: &again{eventDelta}, found: func(overflow) {}}
	buf := make([]byte, smallRead)
	b.SetBytes(int64(len(eventDelta)))
	b.ReportAllocs()
	for b.Loop() {
		n, err := body.Read(buf)
		if err == nil {
			_, err = s.Write(buf[:n])
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}

// sizes reads as many bytes as it is told, at most, and notes the buffers it gets.
type sizes struct{ left, got []int }

func (s *sizes) Read(p []byte) (int, error) {
	if len(s.left) == 0 {
		return 0, io.EOF
	}
	s.got = append(s.got, len(p))
	n := min(s.left[0], len(p))
	if s.left[0] -= n; s.left[0] == 0 {
		s.left = s.left[1:]
	}
	return n, nil
}

// A stream that says little at a time holds a small buffer, also after it said much.
func TestRelayHoldsLittle(t *testing.T) {
	s := newQuietStream(t)
	body := &sizes{left: []int{100, 100_000, 100, 100}}
	if err := (&model{}).relay(s, body); err != nil {
		t.Fatal(err)
	}
	want := []int{smallRead, smallRead, bulkRead, bulkRead, bulkRead, bulkRead, smallRead}
	if !slices.Equal(body.got, want) {
		t.Errorf("buffers of %d, want %d", body.got, want)
	}
	if _, n, _, _ := s.end(); n != 100_300 {
		t.Errorf("%d bytes passed", n)
	}
}

// A body that is sent is not held as long as its answer takes.
func TestSentBodyIsLetGo(t *testing.T) {
	b := newSentBody([]byte("abc"))
	if got, err := io.ReadAll(b); err != nil || string(got) != "abc" {
		t.Fatalf("%q, %v", got, err)
	}
	b = newSentBody([]byte("abc"))
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err := b.Read(make([]byte, 3)); n != 0 || err != io.EOF || b.left.Size() != 0 {
		t.Errorf("%d, %v after its end, of %d bytes", n, err, b.left.Size())
	}
}

// A stream may take as long as it likes while its client reads.
func TestModelStreamsLongerThanAStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer := []timed{{0, headSSE}}
		for range int(3 * writeStall / (500 * time.Millisecond)) {
			answer = append(answer, timed{500 * time.Millisecond, chunk(eventDelta)})
		}
		answer = append(answer, timed{0, chunk(eventEnd) + "0\r\n\r\n"})
		got, l := serveModel(t, &Model{Log: quiet, Endpoints: claudeEndpoints, ModelName: "gpt-oss"}, answer)
		if n := strings.Count(got, eventDelta); n != len(answer)-2 || !strings.HasSuffix(got, eventEnd) {
			t.Errorf("%d events of %d came", n, len(answer)-2)
		}
		if e := l.next(t); e.Status != http.StatusOK || e.Reason != "" {
			t.Errorf("event %+v", e)
		}
	})
}
