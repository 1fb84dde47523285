package proxy

import (
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/policy"
)

// auditFailed is the reason for a refusal that is due to the record alone.
const auditFailed = "audit record could not be written"

// Bytes kept of strings that a container chose.
const (
	maxName   = 255
	maxMethod = 32
	maxPath   = 1024
	maxReason = 512
)

var (
	errNoRecord = errors.New("no Record: attempts could not be recorded")
	errNoLog    = errors.New("no Log")
	errAudit    = errors.New(auditFailed)
)

// recorder fills in what all events of one server share and remembers whether
// the last one could be written: while it could not, nothing new is let through.
type recorder struct {
	put     func(audit.Event) error
	subject audit.Subject
	layer   audit.Layer
	log     *slog.Logger
	failed  atomic.Bool
}

// record writes e and reports whether it is kept.
func (r *recorder) record(e audit.Event) bool {
	e.Subject, e.Layer, e.Proto = r.subject, r.layer, "tcp"
	e.Host = bound(e.Host, maxName)
	e.SNI = bound(e.SNI, maxName)
	e.Method = bound(e.Method, maxMethod)
	e.Path = bound(e.Path, maxPath)
	e.Reason = bound(e.Reason, maxReason)
	e.Session = bound(e.Session, maxName)
	err := r.put(e)
	r.failed.Store(err != nil)
	if err != nil {
		r.log.Error(auditFailed, "layer", string(r.layer), "error", err)
	}
	return err == nil
}

// broken says that the last event was lost.
func (r *recorder) broken() bool { return r.failed.Load() }

// denied is an event of a refusal on conn.
func denied(conn net.Conn, reason string) audit.Event {
	e := event(conn, policy.Deny)
	e.Reason = reason
	return e
}

// knowing is a connection that can tell who makes the attempt which begins on it.
type knowing interface{ Process() *audit.Process }

// event is an event about conn with nothing but addresses, a verdict and, where
// conn knows it, who made the attempt.
func event(conn net.Conn, v policy.Verdict) audit.Event {
	e := anonymous(conn, v)
	if k, ok := conn.(knowing); ok {
		e.Process = k.Process()
	}
	return e
}

// asking has conn find out who makes the attempt that begins, while other things are
// done. What it returns waits for that.
func asking(conn net.Conn) func() *audit.Process {
	k, ok := conn.(knowing)
	if !ok {
		return func() *audit.Process { return nil }
	}
	found := make(chan *audit.Process, 1)
	go func() { found <- k.Process() }()
	return sync.OnceValue(func() *audit.Process { return <-found })
}

// anonymous is event without who made the attempt.
func anonymous(conn net.Conn, v policy.Verdict) audit.Event {
	e := audit.Event{Verdict: v.String(), Count: 1}
	if c, ok := conn.(*clientConn); ok {
		e.Src, e.Dst = c.ends()
	} else {
		e.Src, e.Dst = conn.RemoteAddr().String(), conn.LocalAddr().String()
	}
	return e
}

// seconds since start, for Event.Duration.
func seconds(start time.Time) float64 { return time.Since(start).Seconds() }

// bound cuts s to at most n bytes, at a rune's start.
func bound(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xc0 == 0x80 {
		n--
	}
	return strings.Clone(s[:n])
}

// orDefault returns v, or def where v is zero.
func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}
