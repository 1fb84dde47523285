package web

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/sallyport/sallyport/audit"
)

const (
	streamBuffer    = 256 // events that one stream may be behind
	defaultInterval = 15 * time.Second
	defaultAhead    = 500 * time.Millisecond
)

// change is one message of the live stream: how much came since the last one.
// What it was the page asks for itself, so that there is one way only by which
// text reaches it.
type change struct {
	Events  int64 `json:"events"`
	Refused int64 `json:"refused"` // attempts
	Allowed int64 `json:"allowed"` // attempts
}

// stream tells a page, by server-sent events, when there is something new that
// its filter chooses. It ends with the session, and with a reader that does not
// read.
func (s *Server) stream(w http.ResponseWriter, r *http.Request) {
	q, err := parseQuery(r.URL.Query(), s.now(), s.loc())
	if err != nil {
		http.Error(w, audit.Printable(err.Error()), http.StatusBadRequest)
		return
	}
	q.filter.Since, q.filter.Until = time.Time{}, time.Time{} // what comes is new
	session, ok := r.Context().Value(sessionKey{}).(secret)
	if !ok {
		http.Error(w, "there is no session", http.StatusForbidden)
		return
	}
	defer s.streams.Add(-1)
	if s.streams.Add(1) > maxStreams {
		w.Header().Set("Retry-After", "30")
		http.Error(w, "too many live streams; close a tab", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	out := &streamWriter{w: w, rc: http.NewResponseController(w)}
	if err := s.follow(r, q.filter, session, out); err != nil && r.Context().Err() == nil {
		s.Log.Debug("a live stream of the audit page ended", "err", err)
	}
}

// follow sends changes until the request, the session or the store ends, or
// sending fails.
func (s *Server) follow(r *http.Request, f audit.Filter, session secret, out *streamWriter) error {
	sub := s.Store.Subscribe(streamBuffer)
	defer sub.Close()
	interval, ahead := s.interval, s.ahead
	if interval == 0 {
		interval = defaultInterval
	}
	if ahead == 0 {
		ahead = defaultAhead
	}
	beat := time.NewTicker(interval)
	defer beat.Stop()
	if err := out.send("hello", change{}); err != nil {
		return err
	}
	var gathered change
	var due <-chan time.Time // nil: nothing is gathered
	var missed int64
	for {
		var err error
		select {
		case e, open := <-sub.C:
			if !open {
				return errors.New("the record was closed")
			}
			lost := sub.Missed()
			if gathered.add(e, f) || lost > missed {
				missed = lost
				if due == nil {
					due = time.After(ahead)
				}
			}
			continue
		case <-due:
			err = out.send("change", gathered)
			gathered, due = change{}, nil
		case <-beat.C:
			if !s.now().Before(session.until) {
				return out.send("bye", change{})
			}
			err = out.send("beat", change{})
		case <-session.gone:
			return out.send("bye", change{})
		case <-r.Context().Done():
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// add counts an event that f chooses, and says whether it does.
func (c *change) add(e audit.Event, f audit.Filter) bool {
	if !f.Match(e) {
		return false
	}
	c.Events++
	if e.Denied() {
		c.Refused += e.Count
	} else {
		c.Allowed += e.Count
	}
	return true
}

// streamWriter writes messages, each within streamTimeout.
type streamWriter struct {
	w  http.ResponseWriter
	rc *http.ResponseController
}

func (o *streamWriter) send(name string, c change) error {
	data, err := json.Marshal(c)
	if err != nil {
		return err
	}
	if err := o.rc.SetWriteDeadline(time.Now().Add(streamTimeout)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(o.w, "event: %s\ndata: %s\n\n", name, data); err != nil {
		return err
	}
	return o.rc.Flush()
}
