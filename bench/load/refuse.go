package load

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// RefuseArg says what to ask for that is refused. Clients ask one after the other,
// each on a connection of its own, for names that cycle through a thousand.
type RefuseArg struct {
	Address string        `json:"address"` // host:port: a proxy's; of direct connections where to
	Clients int           `json:"clients"`
	For     time.Duration `json:"for"`
	New     bool          `json:"new,omitempty"`  // a new connection for each; else one that is closed only by the proxy
	Says    string        `json:"says,omitempty"` // what each answer's body has to hold; NAME stands for the name asked for
}

// refusedNames is how many names are asked for in turn.
const refusedNames = 1000

func refusedName(i int) string { return fmt.Sprintf("name-%d.refused.example", i%refusedNames) }

// refuse sends CONNECTs to a proxy, and reads a 403 for each.
func refuse(ctx context.Context, arg RefuseArg) (Rate, error) {
	names, says := make([]string, refusedNames), make([][]byte, refusedNames)
	for i := range names {
		names[i] = refusedName(i)
		says[i] = []byte(strings.ReplaceAll(arg.Says, "NAME", names[i]))
	}
	return during(ctx, arg.Clients, arg.For, func(ctx context.Context) (each, func()) {
		p := &proxied{address: arg.Address}
		return func(i int) error {
			if err := p.ask(ctx, names[i%refusedNames]+":443"); err != nil {
				return err
			}
			body, err := p.body()
			switch {
			case err != nil:
				return err
			case p.status != 403 || !bytes.Contains(body, says[i%refusedNames]):
				return fmt.Errorf("status %d instead of 403 for %s: %.300q", p.status, names[i%refusedNames], body)
			case arg.New || p.last:
				p.close()
			}
			return nil
		}, p.close
	})
}

// intercepted connects to an address that is not let through, sends a ClientHello and
// waits for the end.
func intercepted(ctx context.Context, arg RefuseArg) (Rate, error) {
	hellos := make([][]byte, refusedNames)
	for i := range hellos {
		hellos[i] = clientHello(refusedName(i))
	}
	return during(ctx, arg.Clients, arg.For, func(ctx context.Context) (each, func()) {
		return func(i int) error { return refusedDirectly(ctx, arg.Address, hellos[i%refusedNames]) }, func() {}
	})
}

func refusedDirectly(ctx context.Context, address string, hello []byte) error {
	c, err := dialWay(ctx, address)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }() // it has ended
	if _, err := c.Write(hello); err != nil {
		return err
	}
	var b [1]byte
	switch n, err := c.Read(b[:]); {
	case n > 0:
		return fmt.Errorf("%s answered a ClientHello", address)
	case err == io.EOF || errors.Is(err, syscall.ECONNRESET):
		return nil
	default:
		return err
	}
}

// clientHello is what a TLS client sends first.
func clientHello(name string) []byte {
	client, server := net.Pipe()
	defer func() { _ = server.Close() }() // which ends the handshake
	go func() { _ = tls.Client(client, &tls.Config{ServerName: name}).Handshake() }()
	head := make([]byte, 5)
	_, _ = io.ReadFull(server, head) // a pipe does not fail
	body := make([]byte, int(head[3])<<8|int(head[4]))
	_, _ = io.ReadFull(server, body)
	return append(head, body...)
}

// each does a client's i-th thing; its numbers are not those of other clients.
type each func(i int) error

// warmUp is how long things are done before they count.
const warmUp = 300 * time.Millisecond

// during has clients do things for some time, and counts those that were done
// within. client makes one, and what ends it.
func during(ctx context.Context, clients int, long time.Duration, client func(ctx context.Context) (each, func())) (Rate, error) {
	ctx, cancel := context.WithTimeout(ctx, long+wayTimeout)
	defer cancel()
	begin := time.Now().Add(min(warmUp, long))
	end := begin.Add(long)
	counts, errs := make([]int64, clients), make([]error, clients)
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			do, stop := client(ctx)
			defer stop()
			for i := c; ; i += clients {
				began := time.Now()
				if errs[c] = do(i); errs[c] != nil || time.Now().After(end) {
					return
				}
				if began.After(begin) {
					counts[c]++
				}
			}
		})
	}
	wg.Wait()
	rate := Rate{NS: int64(long)}
	for _, n := range counts {
		rate.N += n
	}
	return rate, errors.Join(errs...)
}

// proxied is a client's connection to a proxy, which it makes when it needs one.
type proxied struct {
	address string
	conn    net.Conn // nil: none
	r       *bufio.Reader
	out, in []byte

	// Of the last answer:
	status int
	length int64 // of its body; -1: up to the connection's end
	last   bool  // no other answer comes on the connection
}

func (p *proxied) close() {
	if p.conn != nil {
		_ = reset(p.conn) // done with
		p.conn = nil
	}
}

// ask sends a CONNECT and reads the head of its answer. A proxy may have closed the
// connection after the last answer without having said so.
func (p *proxied) ask(ctx context.Context, target string) error {
	kept := p.conn != nil
	err := p.askOnce(ctx, target)
	if kept && (errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)) {
		p.close()
		err = p.askOnce(ctx, target)
	}
	return err
}

func (p *proxied) askOnce(ctx context.Context, target string) error {
	if p.conn == nil {
		c, err := dialWay(ctx, p.address)
		if err != nil {
			return err
		}
		p.conn = c
		if p.r == nil {
			p.r = bufio.NewReaderSize(nil, 4<<10)
		}
		p.r.Reset(c)
	}
	p.out = append(append(append(p.out[:0], "CONNECT "...), target...), " HTTP/1.1\r\nHost: "...)
	p.out = append(append(p.out, target...), "\r\nUser-Agent: bench\r\n\r\n"...)
	if _, err := p.conn.Write(p.out); err != nil {
		return err
	}
	return p.head()
}

func (p *proxied) head() error {
	line, err := p.r.ReadSlice('\n')
	if err != nil {
		return fmt.Errorf("read an answer: %q: %w", line, err)
	}
	if len(line) < len("HTTP/1.1 200\r\n") {
		return fmt.Errorf("read an answer: %q", line)
	}
	if p.status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return fmt.Errorf("read an answer: %q: %w", line, err)
	}
	p.length, p.last = -1, !bytes.HasPrefix(line, []byte("HTTP/1.1"))
	for {
		line, err := p.r.ReadSlice('\n')
		if err != nil {
			return fmt.Errorf("read an answer's head: %w", err)
		}
		name, value, _ := bytes.Cut(bytes.TrimRight(line, "\r\n"), []byte(": "))
		switch {
		case len(name) == 0:
			p.last = p.last || p.length < 0
			return nil
		case bytes.EqualFold(name, []byte("Content-Length")):
			if p.length, err = strconv.ParseInt(string(value), 10, 64); err != nil {
				return fmt.Errorf("read an answer's head: %w", err)
			}
		case bytes.EqualFold(name, []byte("Connection")):
			p.last = p.last || bytes.EqualFold(value, []byte("close"))
		}
	}
}

// body reads the body of the last answer whole; it is there until the next.
func (p *proxied) body() ([]byte, error) {
	if p.length < 0 {
		text, err := io.ReadAll(p.r)
		return text, err
	}
	p.in = append(p.in[:0], make([]byte, p.length)...)
	if _, err := io.ReadFull(p.r, p.in); err != nil {
		return p.in, fmt.Errorf("read an answer's body: %w", err)
	}
	return p.in, nil
}
