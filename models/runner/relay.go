package runner

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	maxConns    = 512
	copyBuffer  = 32 << 10
	refuseWait  = 10 * time.Second // for the request that is to be refused
	readyWait   = 10 * time.Second
	acceptPause = 50 * time.Millisecond
)

// relay passes bytes between the clients' socket and the server's. It knows no
// timeout: a model may think for as long as it likes.
type relay struct {
	target   string // the server's socket
	activity *activity
	log      *slog.Logger
}

// serve relays until ctx ends, and returns when every connection has ended.
func (r *relay) serve(ctx context.Context, l *net.UnixListener) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	places := make(chan struct{}, maxConns)
	for {
		c, err := l.AcceptUnix()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = c.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept clients of the model: %w", err)
		case err != nil: // out of descriptors, say: it passes
			r.log.Warn("accept a client of the model", "err", err)
			select {
			case <-ctx.Done():
			case <-time.After(acceptPause):
			}
			continue
		}
		select {
		case places <- struct{}{}:
		default:
			_ = c.Close()
			continue
		}
		wg.Go(func() {
			defer func() { <-places }()
			r.handle(ctx, c)
		})
	}
}

// handle serves one client.
func (r *relay) handle(ctx context.Context, client *net.UnixConn) {
	defer client.Close()
	stop := context.AfterFunc(ctx, func() { _ = client.Close() })
	defer stop()
	var d net.Dialer
	server, err := d.DialContext(ctx, "unix", r.target)
	if err != nil {
		refuse(client)
		return
	}
	defer server.Close()
	stopServer := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stopServer()
	r.pass(client, server.(*net.UnixConn))
}

// pass relays until both sides have ended, or one of them is gone for good.
func (r *relay) pass(client, server *net.UnixConn) {
	x := &exchange{activity: r.activity}
	defer x.end()
	var wg sync.WaitGroup
	defer wg.Wait()
	way := func(to, from *net.UnixConn, seen func([]byte)) {
		if pump(to, from, seen) {
			awaitHangUp(from)
		}
		_ = client.Close()
		_ = server.Close()
	}
	wg.Go(func() { way(server, client, x.fromClient) })
	way(client, server, x.fromServer)
}

// pump copies until from ends, and passes that end on. It reports whether there
// was nothing else the matter.
func pump(to, from *net.UnixConn, seen func([]byte)) bool {
	buf := make([]byte, copyBuffer)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			seen(buf[:n])
			if _, err := to.Write(buf[:n]); err != nil {
				return false
			}
		}
		if errors.Is(err, io.EOF) {
			return to.CloseWrite() == nil
		}
		if err != nil {
			return false
		}
	}
}

// awaitHangUp returns when both directions of c have ended: its peer, which will
// send no more, has gone, or has got the other side's end as well. Without it a
// client that ends its request first and leaves later would not be missed.
func awaitHangUp(c *net.UnixConn) {
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	// Each change of the socket's state has the function called again.
	_ = raw.Read(func(fd uintptr) bool {
		p := []unix.PollFd{{Fd: int32(fd)}}
		n, err := unix.Poll(p, 0)
		return err == nil && n > 0 && p[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0
	})
}

// refuse answers one request with 503: the server does not answer (yet). It waits
// for the request first, since an answer that nobody has asked for confuses
// clients that keep connections open.
func refuse(c *net.UnixConn) {
	if c.SetDeadline(time.Now().Add(refuseWait)) != nil {
		return
	}
	in := bufio.NewReader(io.LimitReader(c, maxHead))
	if _, err := http.ReadRequest(in); err != nil {
		return
	}
	const body = `{"type":"error","error":{"type":"overloaded_error","message":"the model server does not answer yet"}}`
	_, err := fmt.Fprintf(c, "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 2\r\n"+
		"Connection: close\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	if err == nil && c.CloseWrite() == nil {
		_, _ = io.Copy(io.Discard, c) // a close with bytes unread would cut the answer off
	}
}

// ready reports whether the server has loaded: GET /health answers 200. A server
// that has no such path answers 404, and answers.
func (r *run) ready(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, readyWait)
	defer cancel()
	var d net.Dialer
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return d.DialContext(ctx, "unix", r.folder.path(serverSocket))
	}}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://model/health", nil)
	if err != nil {
		return false
	}
	res, err := client.Do(req)
	if err != nil {
		return false
	}
	_ = res.Body.Close()
	return res.StatusCode == http.StatusOK || res.StatusCode == http.StatusNotFound
}
