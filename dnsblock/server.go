// Package dnsblock answers a sandbox's DNS queries, over UDP and TCP, and looks
// up none of them: every name that is asked for is recorded and does not exist.
// It never sends a packet anywhere but back to the one who asked. Which names a
// user allows is not known here; the proxy resolves those by itself.
package dnsblock

import (
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/policy"
)

// notRecorded is the reason for refusing what could not be recorded.
const notRecorded = "audit record could not be written"

// Server answers the queries of one sandbox. Its fields may not change once it
// serves.
type Server struct {
	Subject     audit.Subject             // whose queries they are
	Record      func(audit.Event) error   // called before the answer is sent; an error makes the answer SERVFAIL. Required
	RecordAll   func([]audit.Event) error // Record of queries that came at once over UDP, all or none; it may not keep the slice. Nil: Record, one by one
	Log         *slog.Logger              // what goes wrong here; never a query. Required
	MaxTCP      int                       // connections at a time; more are refused and recorded. Zero: 16
	IdleTimeout time.Duration             // how long a TCP client may take for one message. Zero: 10 s

	dropTime time.Duration // between records of what was dropped at the UDP socket; zero: 1 s
	failure  failure
}

func (s *Server) check() error {
	switch {
	case s.Record == nil:
		return errors.New("serve DNS: no Record function")
	case s.Log == nil:
		return errors.New("serve DNS: no logger")
	case s.MaxTCP < 0 || s.IdleTimeout < 0:
		return errors.New("serve DNS: a limit is negative")
	}
	return nil
}

// peer is who asked, and whom.
type peer struct {
	proto    string // "udp" or "tcp"
	src, dst netip.AddrPort
	process  func() *audit.Process // who that is; nil: the connection cannot tell
}

// handle records one message and returns the answer to send, nil for none.
func (s *Server) handle(message []byte, p peer) []byte {
	o := judge(message)
	answer := o.pack()
	e := s.event(p, o.reason)
	e.Host, e.Method = o.name, o.qtype
	e.BytesIn, e.BytesOut = int64(len(message)), int64(len(answer))
	if !s.record(e) && answer != nil {
		o.fail(notRecorded)
		return o.pack()
	}
	return answer
}

func (s *Server) event(p peer, reason string) audit.Event {
	e := audit.Event{
		Subject: s.Subject,
		Layer:   audit.LayerDNS,
		Proto:   p.proto,
		Verdict: policy.Deny.String(),
		Reason:  reason,
	}
	if p.process != nil {
		e.Process = p.process()
	}
	if p.src.IsValid() {
		e.Src = p.src.String()
	}
	if p.dst.IsValid() {
		e.Dst, e.Port = p.dst.String(), p.dst.Port()
	}
	return e
}

// record says whether e has been recorded.
func (s *Server) record(e audit.Event) bool {
	err := s.Record(e)
	s.failure.note(s.Log, err)
	return err == nil
}

// recordAll says whether all of events have been recorded; without RecordAll it is
// given one.
func (s *Server) recordAll(events []audit.Event) bool {
	if s.RecordAll == nil {
		return s.record(events[0])
	}
	err := s.RecordAll(events)
	s.failure.note(s.Log, err)
	return err == nil
}

// failure remembers whether recording fails, so that the log gets a line when
// that changes and not one for each query.
type failure struct {
	mu sync.Mutex
	on bool
}

func (f *failure) note(log *slog.Logger, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case err != nil && !f.on:
		log.Error("DNS queries are answered with SERVFAIL: "+notRecorded, "error", err)
	case err == nil && f.on:
		log.Info("DNS queries are recorded again")
	}
	f.on = err != nil
}

// unmapped returns an IPv4 address that came as IPv6 in its own form.
func unmapped(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}
