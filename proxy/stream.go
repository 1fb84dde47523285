package proxy

import (
	"errors"
	"mime"
	"net/http"
	"sync"
	"time"
)

const (
	pingEvent  = "event: ping\ndata: {\"type\": \"ping\"}\n\n"
	writeStall = 5 * time.Minute  // a client that takes no byte for so long is given up
	headPause  = time.Millisecond // a head waits so long for the first piece, to be sent with it
)

// stream is the way of a model's response to the client. It counts what passes,
// reads the token counts out of it and fills the silences of an event stream
// with pings, between events only. The model server's 1xx are dropped.
type stream struct {
	http.ResponseWriter
	pingAfter  time.Duration
	maxSilence time.Duration
	giveUp     func() // ends the upstream request after maxSilence

	mu     sync.Mutex // a ping is written by a timer
	rc     *http.ResponseController
	status int
	head   bool // is still to be sent
	n      int64
	sse    bool
	events eventScanner
	tail   tailScanner
	heard  time.Time // when the model server was heard last
	sent   time.Time // when the client was sent something last
	stall  time.Time // when the deadline for writing was put off last
	timer  *time.Timer
	silent bool // given up after maxSilence
	over   bool
}

func newStream(w http.ResponseWriter, m *model, giveUp func()) *stream {
	s := &stream{ResponseWriter: w, rc: http.NewResponseController(w), giveUp: giveUp,
		pingAfter: m.PingAfter, maxSilence: m.maxSilence, heard: time.Now(), sent: time.Now()}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.timer = time.AfterFunc(s.maxSilence, s.tick)
	return s
}

// WriteHeader passes final statuses on, with the first piece if it comes at once.
func (s *stream) WriteHeader(code int) {
	if code < http.StatusOK {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.status != 0 {
		return
	}
	s.status = code
	s.heard, s.sent = time.Now(), time.Now()
	kind, _, _ := mime.ParseMediaType(s.Header().Get("Content-Type"))
	if s.sse = code == http.StatusOK && kind == "text/event-stream"; s.sse {
		s.Header().Del("Content-Length")
	}
	s.ResponseWriter.WriteHeader(code)
	s.head = true
	s.timer.Reset(min(headPause, s.pingAfter, s.maxSilence))
}

// Write passes a piece on at once.
func (s *stream) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heard = time.Now()
	if s.sse {
		s.events.now = s.heard
		s.events.feed(p)
	} else {
		s.tail.feed(p)
	}
	return s.send(p, s.heard)
}

// send writes to the client; s.mu is held.
func (s *stream) send(p []byte, now time.Time) (int, error) {
	if err := s.putOffStall(now); err != nil {
		return 0, err
	}
	n, err := s.ResponseWriter.Write(p)
	s.n += int64(n)
	s.sent, s.head = now, false
	if err != nil {
		return n, err
	}
	return n, s.rc.Flush()
}

// putOffStall gives the client time anew to take what is sent; s.mu is held.
func (s *stream) putOffStall(now time.Time) error {
	if now.Sub(s.stall) <= time.Second { // not for each event
		return nil
	}
	if err := s.rc.SetWriteDeadline(now.Add(writeStall)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	s.stall = now
	return nil
}

// tick runs when a head's first piece did not come at once, and when the client or
// the model may have been silent for too long.
func (s *stream) tick() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return
	}
	if s.head {
		s.head = false
		_ = errors.Join(s.putOffStall(time.Now()), s.rc.Flush()) // or the first piece fails
	}
	silence := time.Since(s.heard)
	if silence >= s.maxSilence {
		s.silent = true
		s.giveUp()
		return
	}
	next := s.maxSilence - silence
	if s.sse {
		quiet := time.Since(s.sent)
		if quiet >= s.pingAfter {
			s.ping()
			quiet = 0
		}
		next = min(next, s.pingAfter-quiet)
	}
	s.timer.Reset(next)
}

func (s *stream) ping() {
	if !s.events.boundary() {
		s.sent = time.Now() // look again after pingAfter
		return
	}
	_, _ = s.send([]byte(pingEvent), time.Now()) // or the next piece fails
}

// interrupted tells the client of a broken event stream why it breaks, where an
// event of ours fits in. The stream must then be aborted.
func (s *stream) interrupted(message string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.sse || s.over || s.events.stopped || !s.events.boundary() {
		return
	}
	event := append([]byte("event: error\ndata: "), errorBody("api_error", message)...)
	_, _ = s.send(append(event, "\n\n"...), time.Now()) // the stream ends anyway
}

// end stops the pings; after it nothing is written.
func (s *stream) end() (status int, n int64, u usage, silent bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	s.timer.Stop()
	if u = s.events.usage; !s.sse {
		u = s.tail.usage()
	}
	return s.status, s.n, u, s.silent
}
