package dnsblock

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/sallyport/sallyport/audit"
)

// recordAll is Server.RecordAll, and keeps how large each batch was.
func (b *book) recordAll(es []audit.Event) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.batches = append(b.batches, len(es))
	if b.broken {
		return errors.New("disk full")
	}
	b.events = append(b.events, es...)
	return nil
}

func newBatchServer() (*Server, *book) {
	s, b := newServer()
	s.RecordAll = b.recordAll
	return s, b
}

// pair is a server's socket and one that asks it.
func pair(t *testing.T) (server, client *net.UDPConn) {
	t.Helper()
	server, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	client, err = net.DialUDP("udp", nil, server.LocalAddr().(*net.UDPAddr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	if err := client.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return server, client
}

// serveUDP runs s until what it returns is called.
func serveUDP(t *testing.T, s *Server, c *net.UDPConn) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.ServeUDP(ctx, c) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("ServeUDP: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func numbered(n int) []byte {
	query := wire(fmt.Sprintf("name%d", n), "example")
	binary.BigEndian.PutUint16(query, uint16(n))
	return query
}

// Every query of a batch has its own event and its own answer, and none is sent
// before the events of its batch are recorded.
func TestBatch(t *testing.T) {
	const queries = 100
	server, client := pair(t)
	for n := range queries {
		if _, err := client.Write(numbered(n)); err != nil {
			t.Fatal(err)
		}
	}
	s, b := newBatchServer()
	began, goOn := make(chan struct{}, queries), make(chan struct{})
	s.RecordAll = func(es []audit.Event) error {
		began <- struct{}{}
		<-goOn
		return b.recordAll(es)
	}
	stop := serveUDP(t, s, server)
	for range batchWorkers {
		<-began
	}
	if n, err := peek(t, client); err == nil {
		t.Fatalf("an answer of %d bytes was sent before its record", n)
	}
	close(goOn)
	answered := map[int]bool{}
	buf := make([]byte, 512)
	for range queries {
		n, err := client.Read(buf)
		if err != nil {
			t.Fatalf("after %d answers: %v", len(answered), err)
		}
		m := unpack(t, buf[:n])
		if want := fmt.Sprintf("name%d.example.", m.Id); m.Rcode != dns.RcodeNameError || len(m.Question) != 1 || m.Question[0].Name != want {
			t.Fatalf("answer %v", m)
		}
		answered[int(m.Id)] = true
	}
	stop()
	recorded := map[string]int{}
	for _, e := range b.all() {
		recorded[e.Host]++
		if e.Src != client.LocalAddr().String() || e.Sandbox != "s1" || e.Verdict != "denied" || e.Layer != "dns" || e.Proto != "udp" || e.Method != "A" || e.BytesIn == 0 || e.BytesOut == 0 || e.Reason == "" {
			t.Errorf("event %+v", e)
		}
	}
	for n := range queries {
		if name := fmt.Sprintf("name%d.example", n); recorded[name] != 1 || !answered[n] {
			t.Errorf("%s has %d events, answered %v", name, recorded[name], answered[n])
		}
	}
	if len(recorded) != queries || len(b.batches) > queries/2 {
		t.Errorf("%d names, batches %v", len(recorded), b.batches)
	}
}

// peek reads what is there now.
func peek(t *testing.T, c *net.UDPConn) (n int, err error) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	failed := raw.Read(func(fd uintptr) bool {
		n, err = readNow(fd)
		return true
	})
	if failed != nil {
		t.Fatal(failed)
	}
	return n, err
}

// A batch that cannot be recorded is refused as a whole, and once it can be, queries
// get their answers again.
func TestBatchNotRecorded(t *testing.T) {
	server, client := pair(t)
	const queries = 20
	for n := range queries {
		query := pack(t, withEDNS(question("x.example.", dns.TypeA)))
		if n%2 == 1 {
			query = numbered(n) // without EDNS
		}
		if _, err := client.Write(query); err != nil {
			t.Fatal(err)
		}
	}
	s, b := newBatchServer()
	var log bytes.Buffer
	s.Log = slog.New(slog.NewTextHandler(&log, nil))
	b.broken = true
	stop := serveUDP(t, s, server)
	buf := make([]byte, 512)
	told := 0
	for range queries {
		n, err := client.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		m := unpack(t, buf[:n])
		if m.Rcode != dns.RcodeServerFailure {
			t.Errorf("answer %v", m)
		}
		if e := extended(m); e != nil && e.ExtraText == notRecorded {
			told++
		}
	}
	if told != queries/2 {
		t.Errorf("%d answers say why", told)
	}
	b.mu.Lock()
	b.broken = false
	b.mu.Unlock()
	askUDP(t, client)
	stop()
	if e := b.all(); len(e) != 1 || e[0].Host != "x.example" {
		t.Errorf("events %+v", e)
	}
	if n := strings.Count(log.String(), "\n"); n != 2 {
		t.Errorf("%d lines in the log:\n%s", n, log.String())
	}
}

// What is unusual in a batch gets what it gets alone.
func TestBatchOfAll(t *testing.T) {
	server, client := pair(t)
	response := question("x.example.", dns.TypeA)
	response.Response = true
	long := append(wire("long", "example"), make([]byte, 60000)...)
	messages := [][]byte{
		{}, {1}, pack(t, response), wire("a.b", "\xff"), numbered(1), wire("x", "example")[:20], long,
		pack(t, new(dns.Msg).SetUpdate("x.example.")), pack(t, withEDNS(question("x.example.", dns.TypeTXT))),
	}
	want, wantBook := newServer()
	answers := map[string]int{}
	for _, m := range messages {
		if a := want.handle(m, peer{proto: "udp"}); a != nil {
			answers[string(a)]++
		}
		if _, err := client.Write(m); err != nil {
			t.Fatal(err)
		}
	}
	s, b := newBatchServer()
	stop := serveUDP(t, s, server)
	buf := make([]byte, 1024)
	for range len(messages) - 3 {
		n, err := client.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		if answers[string(buf[:n])]--; answers[string(buf[:n])] < 0 {
			t.Errorf("answer %x", buf[:n])
		}
	}
	stop()
	if n, err := peek(t, client); err == nil {
		t.Errorf("an answer more, of %d bytes", n)
	}
	events := map[audit.Event]int{}
	for _, e := range wantBook.all() {
		events[e]++
	}
	for _, e := range b.all() {
		e.Src = ""
		if events[e]--; events[e] < 0 {
			t.Errorf("event %+v", e)
		}
	}
	if len(b.all()) != len(messages) {
		t.Errorf("%d events", len(b.all()))
	}
}
