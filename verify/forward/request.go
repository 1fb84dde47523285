package forward

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/verify"
	"github.com/sallyport/sallyport/verify/probe"
)

const (
	patience = verify.Deadline        // with a peer that says nothing
	pause    = 300 * time.Millisecond // after which an answer counts as whole
	most     = 256 << 10              // of an answer is read (bytes)
)

// request is one message to the proxy, and what the record must hold of it.
type request struct {
	bytes string
	event probe.Event
	// unreachable says that the name is allowed and may not be where it points to:
	// the proxy's 502 is then its refusal.
	unreachable bool
}

// recorded is an event of the proxy's.
func recorded(t probe.Target, e probe.Event) probe.Event {
	e.Layer, e.Proto, e.Dst = audit.LayerProxy, "tcp", t.Proxy.String()
	return e
}

// connect asks for a tunnel to host:port. The record has what was asked for.
func connect(t probe.Target, host, port string) request {
	target := host + ":" + port
	return request{
		bytes: fmt.Sprintf("CONNECT %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", target, hostHeader(t, target)),
		event: recorded(t, probe.Event{Method: "CONNECT", Host: strings.ToLower(strings.Trim(host, "[]"))}),
	}
}

// get asks for http://host/PATH in absolute form.
func get(t probe.Target, host, path string) request {
	return request{
		bytes: fmt.Sprintf("GET http://%s/%s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", host, path, hostHeader(t, host)),
		event: recorded(t, probe.Event{Method: "GET", Host: strings.ToLower(withoutPort(host)), Path: "/" + path}),
	}
}

// withoutPort leaves brackets: so does the record of a URL.
func withoutPort(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		return name
	}
	return host
}

// hostHeader is host where a Host header may hold it, so that it is the request's
// target that is refused.
func hostHeader(t probe.Target, host string) string {
	odd := func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`@%\/?#`, r) }
	if host == "" || strings.ContainsFunc(host, odd) {
		return t.Name("host")
	}
	return host
}

// unread is what is recorded of a request that no HTTP parser takes: the target as
// far as its line holds together.
func unread(t probe.Target, r request) request {
	method, rest, _ := strings.Cut(r.bytes, " ")
	line, _, _ := strings.Cut(rest, "\n")
	target, _, _ := strings.Cut(strings.TrimRight(line, "\r"), " ")
	target, _, _ = strings.Cut(target, "?")
	r.event = recorded(t, probe.Event{Method: method, Path: target})
	return r
}

// sendAll makes the requests one after the other and judges them as one. In a sandbox
// one that got through is enough; a control has to show of each that it can.
func sendAll(ctx context.Context, t probe.Target, requests []request) probe.Finding {
	var findings []probe.Finding
	for _, r := range requests {
		said, err := exchange(ctx, t.Proxy, r.bytes)
		f := judge(said, err, r.unreachable, r.event)
		findings = append(findings, f)
		if t.Setting == probe.Sandbox && f.Outcome != verify.Blocked {
			break
		}
	}
	return merge(t, findings)
}

// merge makes one finding of several.
func merge(t probe.Target, findings []probe.Finding) probe.Finding {
	var all probe.Finding
	var details []string
	count := map[verify.Outcome]int{}
	for _, f := range findings {
		count[f.Outcome]++
		all.Events = append(all.Events, f.Events...)
		all.Errno = f.Errno
		if !slices.Contains(details, f.Detail) {
			details = append(details, f.Detail)
		}
	}
	switch n := len(findings); {
	case n == 0:
	case count[verify.Reached] == n || count[verify.Reached] > 0 && t.Setting == probe.Sandbox:
		all.Outcome = verify.Reached
	case count[verify.Blocked] == n:
		all.Outcome = verify.Blocked
	case count[verify.StoppedInside] == n:
		all.Outcome = verify.StoppedInside
	}
	if all.Outcome != verify.Blocked {
		all.Events = nil
	}
	if all.Outcome != verify.StoppedInside {
		all.Errno = ""
	}
	all.Detail = strings.Join(details, "; ")
	return all
}

// exchange sends text to addr and returns what comes back until the peer closes,
// pauses or has said enough. The error is why nothing came.
func exchange(ctx context.Context, addr netip.AddrPort, text string) ([]byte, error) {
	conn, err := dialTo(ctx, addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if _, err := io.WriteString(conn, text); err != nil {
		return listen(conn, err) // it may have answered before it closed
	}
	return listen(conn, nil)
}

func dialTo(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := (&net.Dialer{KeepAlive: -1}).DialContext(ctx, "tcp", addr.String())
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", addr, err)
	}
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// listen reads until it is clear what the answer is; failed is the error of the write
// before, if any.
func listen(conn net.Conn, failed error) ([]byte, error) {
	said := make([]byte, 0, 4096)
	for len(said) < most {
		said = slices.Grow(said, 4096)
		n, err := conn.Read(said[len(said):cap(said)])
		said = said[:len(said)+n]
		if len(said) > 0 && judge(said, nil, false).Outcome == verify.Reached {
			return said, nil
		}
		if err == nil {
			err = conn.SetReadDeadline(time.Now().Add(pause))
		}
		if err != nil {
			if len(said) > 0 {
				return said, nil
			}
			if failed != nil {
				return nil, failed
			}
			return nil, err
		}
	}
	return said, nil
}
