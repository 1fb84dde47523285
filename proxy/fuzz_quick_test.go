package proxy

import (
	"bytes"
	"context"
	"io"
	"net"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport/sallyport/audit"
)

// pause stands between what a client sends at once.
const pause = "|"

// converse is talk with a client that pauses.
func converse(s server, parts []string) (output []byte, lasted time.Duration) {
	began := time.Now()
	ctx, cancel := context.WithCancel(context.Background())
	ours, its := net.Pipe()
	l := &single{conn: its, closed: make(chan struct{})}
	var wg sync.WaitGroup
	ended := make(chan struct{})
	wg.Go(func() { _ = s.Serve(ctx, l) })
	wg.Go(func() {
		defer close(ended)
		output, _ = io.ReadAll(ours) // until the server's limits in time have passed
	})
	for _, part := range parts {
		if _, err := io.WriteString(ours, part); err != nil {
			break
		}
		synctest.Wait()
	}
	<-ended
	lasted = time.Since(began)
	_ = ours.Close()
	cancel()
	wg.Wait()
	return output, lasted
}

// conversation is all that can be seen of one.
type conversation struct {
	output string
	lasted time.Duration
	events []audit.Event
	origin []string
}

func hold(t *testing.T, f Forward, parts []string) (c conversation) {
	synctest.Test(t, func(*testing.T) {
		behind, k := &far{answer: []byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"), after: time.Millisecond}, &kept{}
		f.Dial, f.Record, f.IdleTimeout, f.Log = behind.dial, k.record, time.Second, quiet
		output, lasted := converse(&f, parts)
		c.output, c.lasted = string(output), lasted
		behind.wg.Wait()
		c.events = k.events
		for _, got := range behind.got {
			c.origin = append(c.origin, got.String())
		}
	})
	return c
}

// Whatever a client sends, and wherever it pauses, it is answered, recorded and
// passed on as if there were no quick: byte for byte, the time of day included, and
// it ends at the same time.
func FuzzQuick(f *testing.F) {
	no := "CONNECT c.example:443 HTTP/1.1\r\nHost: c.example:443\r\n"
	for _, s := range []string{
		no + "\r\n", no + "User-Agent: curl/8\r\nProxy-Connection: Keep-Alive\r\n\r\n" + pause + no + "\r\n" + pause + requests[15],
		no + "\r\n" + pause + requests[0] + pause + no + "\r\n", no + "\r\n" + no + "\r\n", no + "\r\n" + pause + "CO" + pause + "NNECT", no + "\r\n" + pause + "CONNECT c.ex",
		no + "\r\n" + pause + "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", no + "Content-Length: 1\r\n\r\nx", no + "Host: c.example:443\r\n\r\n",
		no + "Connection: close\r\n\r\n" + pause + no + "\r\n", no + "Expect: 100-continue\r\n\r\n", no + "Accept: \x01\r\n\r\n", no + "Accept : x\r\n\r\n",
		"CONNECT C.Example.:443 HTTP/1.1\r\nhost:C.Example.:443 \r\n\r\n", "CONNECT c.example:443 HTTP/1.0\r\n\r\n", "CONNECT c_d.example:1 HTTP/1.1\r\n\r\n",
		"CONNECT c.example:0443 HTTP/1.1\r\n\r\n", "CONNECT xn--c.example:443 HTTP/1.1\r\n\r\n", "CONNECT c..example:443 HTTP/1.1\r\n\r\n", no + pause + "\r\n",
		"CONNECT 7:443 HTTP/1.1\r\n\r\n", "CONNECT -c.example:443 HTTP/1.1\r\n\r\n" + pause + "\r\n" + no, " " + no + "\r\n", no + " folded\r\n\r\n", no + ": x\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	for _, r := range requests {
		f.Add([]byte(r + pause + no + "\r\n"))
	}
	rules := fuzzPolicy(f)
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) > 8<<10 {
			return
		}
		parts := strings.Split(string(raw), pause)
		quick := hold(t, Forward{Policy: rules}, parts)
		slow := hold(t, Forward{Policy: rules, slow: true}, parts)
		if slices.ContainsFunc(parts, func(p string) bool { return len(p) < 4 }) {
			// After a request net/http does not call it one before it has 4 bytes: what it
			// says of it, and when, differs.
			if len(quick.events) == len(slow.events) && slices.Equal(quick.origin, slow.origin) {
				return
			}
		}
		if !reflect.DeepEqual(quick, slow) {
			t.Errorf("%q\nquick %+v\nslow  %+v", parts, quick, slow)
		}
	})
}

// What plainConnect takes is one request to a strict reader too, for the target that
// it returns.
func FuzzPlainConnect(f *testing.F) {
	f.Add([]byte("CONNECT c.example:443 HTTP/1.1\r\nHost: c.example:443\r\nUser-Agent: x\r\n\r\n"))
	f.Add([]byte("CONNECT c.example:443 HTTP/1.1\r\nHost: d.example:443\r\n\r\n"))
	f.Add([]byte("CONNECT c.example:443 HTTP/1.1\r\n\r\nGET"))
	f.Fuzz(func(t *testing.T, b []byte) {
		target, ok := plainConnect(b)
		if !ok {
			return
		}
		if _, _, err := parseTarget(string(target)); err != nil {
			return // it goes to net/http
		}
		q, strict := readStrict(string(b))
		host, one := q.only("host")
		if !strict || q.method != "CONNECT" || q.target != string(target) || q.rest != "" || !one || host != "" && host != q.target {
			t.Errorf("%q: %q, and a strict reader finds %+v", b, target, q)
		}
		for _, name := range []string{"content-length", "transfer-encoding", "connection", "upgrade", "expect", "trailer"} {
			if len(q.headers[name]) > 0 {
				t.Errorf("taken with %s: %q", name, b)
			}
		}
	})
}

// A refusal costs no more garbage than its event and its sentence.
func TestQuickAllocates(t *testing.T) {
	s := &forward{Forward: Forward{Policy: fuzzPolicy(t)}, rec: &recorder{put: func(audit.Event) error { return nil }}}
	q := &quick{s: s}
	c := &clientConn{Conn: bytesConn{bytes.NewReader(nil)}, quick: q}
	request := []byte("CONNECT c.example:443 HTTP/1.1\r\nHost: c.example:443\r\nUser-Agent: x\r\n\r\n")
	n := testing.AllocsPerRun(100, func() {
		if !q.answer(c, request) {
			t.Fatal("not answered")
		}
	})
	if n > 7 { // one of them with the race detector alone
		t.Errorf("%v allocations", n)
	}
}
