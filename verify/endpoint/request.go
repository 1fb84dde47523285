package endpoint

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/verify"
	"github.com/sallyport/sallyport/verify/probe"
)

const (
	patience = 8 * time.Second        // with one answer; it takes milliseconds, if the machine has time
	pause    = 150 * time.Millisecond // after which nothing more comes on a connection
	// ours stands in every answer that the gateway gives by itself.
	ours = "sallyport"
)

// attempt is one request that must be refused. In its text HOST stands for a host of
// its own, by which its event is found, MARK for the probe's mark, FORBIDDEN for one
// that must not arrive, MODEL for the model's name, PUBLIC for an address that stands
// for the internet, and in the head LENGTH for the length of what follows the head. What
// follows CHUNKED is sent as one chunk, what follows TRAILER as the lines behind it.
type attempt struct {
	what  string // for people
	raw   string
	more  string // sent behind raw, times over
	times int
	// event is what the record must hold, besides where it was seen; its Host may hold
	// HOST. The zero Event: one of that host.
	event probe.Event
}

// request is an attempt in HTTP/1.1, with a body where there is one.
func request(what, method, target, headers, body string) attempt {
	if body != "" {
		headers += "Content-Type: application/json\r\nContent-Length: LENGTH\r\n"
	}
	return attempt{what: what, raw: method + " " + target + " HTTP/1.1\r\nHost: HOST\r\nUser-Agent: MARK\r\n" + headers + "\r\n" + body}
}

// set are the attempts of one probe.
type set struct {
	t    probe.Target
	name string
	to   netip.AddrPort
	list []attempt
	// through is what an answer holds that shows that an attempt succeeded; empty:
	// each that is not the gateway's own refusal does.
	through string
	// passes says that the requests are allowed, and an attempt fails where its answer
	// is whole and does not hold through.
	passes bool
	// patience is with one answer; zero: the usual one.
	patience time.Duration
}

// host names the i-th attempt in the record.
func (s set) host(i int) string { return s.t.Name(fmt.Sprintf("%s-%d", s.name, i)) }

// text is a raw request with what it stands for in place.
func (s set) text(i int, raw string) string {
	public := s.t.Public4
	if !public.IsValid() {
		public = netip.AddrFrom4([4]byte{203, 0, 113, 1})
	}
	put := strings.NewReplacer("HOST", s.host(i), "MARK", probeMark(s.t.Run, s.name),
		"FORBIDDEN", forbiddenMark(s.t.Run, s.name), "MODEL", s.t.ModelName, "PUBLIC", public.String())
	head, body, _ := strings.Cut(put.Replace(raw), "\r\n\r\n")
	if content, ok := strings.CutPrefix(body, "CHUNKED "); ok {
		content, trailer, _ := strings.Cut(content, "TRAILER ")
		body = chunk(content) + "0\r\n" + trailer + "\r\n"
	}
	return strings.ReplaceAll(head, "LENGTH", strconv.Itoa(len(body))) + "\r\n\r\n" + body
}

// try makes the attempts one after the other.
func (s set) try(ctx context.Context) probe.Finding {
	if !s.to.IsValid() {
		return probe.Missing("model endpoint")
	}
	var events []probe.Event
	for i, a := range s.list {
		said, err := s.exchange(ctx, s.text(i, a.raw), a)
		outcome, detail := s.judge(said, err)
		switch outcome {
		case verify.Blocked:
			events = append(events, s.event(i, a))
		case verify.Reached:
			return probe.Reached("%s: %s", a.what, detail)
		default:
			return probe.Unproven("%s: %s", a.what, detail)
		}
	}
	became := "refused"
	if s.passes {
		became = "passed on without what was wrong with it"
	}
	return probe.Blocked(fmt.Sprintf("%d requests, each %s", len(s.list), became), events...)
}

func (s set) event(i int, a attempt) probe.Event {
	e := a.event
	if e == (probe.Event{}) {
		e.Host = "HOST"
	}
	if s.passes {
		e.Allowed, e.Status = true, 200
	}
	e.Layer, e.Proto, e.Dst = audit.LayerModel, "tcp", s.to.String()
	if s.to != s.t.Model {
		e.Layer = audit.LayerIntercept
	}
	e.Host = strings.ReplaceAll(e.Host, "HOST", s.host(i))
	return e
}

// exchange sends raw, and what a has more, on a connection of its own. It returns the
// answers, until the connection ends or nothing more comes.
func (s set) exchange(ctx context.Context, raw string, a attempt) ([]*answer, error) {
	c, err := dial(ctx, s.to, cmp.Or(s.patience, patience))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	sent := make(chan error, 1)
	go func() {
		_, err := io.WriteString(c, raw)
		for n := 0; n < a.times && err == nil; n++ {
			_, err = io.WriteString(c, a.more)
		}
		sent <- err
	}()
	defer func() { c.Close(); <-sent }()
	var said []*answer
	br := bufio.NewReader(c)
	for len(said) < 8 {
		a, err := readAnswer(br)
		if a.status != 0 || a.flaw != "" {
			said = append(said, a)
		}
		if err != nil && len(said) > 0 {
			return said, nil
		}
		if err != nil || !a.lasts() || s.passes || s.through == "" {
			return said, err
		}
		if err := c.SetReadDeadline(time.Now().Add(pause)); err != nil {
			return said, err
		}
	}
	return said, nil
}

// dial connects; the conversation ends with ctx, or when patience does.
func dial(ctx context.Context, to netip.AddrPort, patience time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c, err := (&net.Dialer{KeepAlive: -1}).DialContext(ctx, "tcp", to.String())
	if err != nil {
		return nil, err
	}
	until, _ := ctx.Deadline()
	if err := c.SetDeadline(until); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// judge says what the answers to one attempt show.
func (s set) judge(said []*answer, err error) (verify.Outcome, string) {
	if len(said) == 0 {
		return refused(err)
	}
	for _, a := range said {
		if s.through != "" && strings.Contains(string(a.body), s.through) {
			return verify.Reached, describe(a)
		}
	}
	for _, a := range said {
		if s.passes && a.status == 200 && a.whole && a.flaw == "" {
			continue
		}
		outcome := judgeAnswer(a)
		if outcome == verify.Reached && s.through != "" {
			outcome = verify.Unproven
		}
		if outcome != verify.Blocked {
			return outcome, describe(a)
		}
	}
	return verify.Blocked, ""
}

func describe(a *answer) string { return fmt.Sprintf("%d %.80q %s", a.status, a.body, a.flaw) }

// judgeAnswer tells the gateway's own refusal from an answer of somebody else.
func judgeAnswer(a *answer) verify.Outcome {
	own := strings.Contains(string(a.body), ours)
	switch {
	case a.flaw == "" && (own && a.status/100 == 4 || isHTTPServer(a)):
		return verify.Blocked
	case own && a.status >= 500: // it comes after the rules let it pass
		return verify.Unproven
	}
	return verify.Reached
}

// isHTTPServer recognises the refusals of Go's own HTTP server (net/http, server.go),
// which come before any handler.
func isHTTPServer(a *answer) bool {
	if a.get("connection") != "close" {
		return false
	}
	return a.status == 417 && len(a.body) == 0 || a.get("content-type") == "text/plain; charset=utf-8" &&
		(a.status/100 == 4 && strings.HasPrefix(string(a.body), strconv.Itoa(a.status)+" ") || a.status == 501 && string(a.body) == "Unsupported transfer encoding")
}

// refused judges a connection that ended without an answer.
func refused(err error) (verify.Outcome, string) {
	switch {
	case ended(err):
		return verify.Blocked, "the connection was ended"
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return verify.Unproven, "no answer"
	}
	return verify.Unproven, fmt.Sprint(err)
}

// ended says that the peer has ended a connection.
func ended(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.EPIPE) || errors.Is(err, io.EOF)
}

// attempts makes a probe of requests that must be refused.
func attempts(name, why, source, through string, own func(context.Context, *probe.Target) error, list []attempt) probe.Probe {
	return probe.Probe{
		Name: name, Group: probe.Model, Why: why, Source: source, Own: own,
		Try: func(ctx context.Context, t probe.Target) probe.Finding {
			return set{t: t, name: name, to: t.Model, list: list, through: through}.try(ctx)
		},
	}
}
