package runner

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// relayed is a relay in this process, and the server's listener behind it.
type relayed struct {
	socket string
	server *net.UnixListener
	relay  *relay
}

func newRelay(t *testing.T) *relayed {
	t.Helper()
	f := folder{newFolder(t)}
	clients, err := f.listen()
	ok(t, err)
	server, err := net.ListenUnix("unix", &net.UnixAddr{Name: f.path(serverSocket), Net: "unix"})
	ok(t, err)
	r := &relayed{f.path(ModelSocket), server, &relay{target: f.path(serverSocket), activity: &activity{}, log: slog.New(slog.DiscardHandler)}}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.relay.serve(ctx, clients) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		server.Close()
	})
	return r
}

// pair is a client's connection and what the server accepted for it.
func (r *relayed) pair(t *testing.T) (client, server *net.UnixConn) {
	t.Helper()
	client, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: r.socket, Net: "unix"})
	ok(t, err)
	t.Cleanup(func() { client.Close() })
	server, err = r.server.AcceptUnix()
	ok(t, err)
	t.Cleanup(func() { server.Close() })
	return client, server
}

func readAll(t *testing.T, c net.Conn) string {
	t.Helper()
	data, err := io.ReadAll(c)
	ok(t, err)
	return string(data)
}

func TestHalfClose(t *testing.T) {
	r := newRelay(t)
	for _, clientFirst := range []bool{true, false} {
		a, b := r.pair(t)
		if !clientFirst {
			a, b = b, a
		}
		_, err := io.WriteString(a, "question")
		ok(t, err)
		ok(t, a.CloseWrite())
		if got := readAll(t, b); got != "question" {
			t.Errorf("%q", got)
		}
		_, err = io.WriteString(b, "answer")
		ok(t, err)
		ok(t, b.CloseWrite())
		if got := readAll(t, a); got != "answer" {
			t.Errorf("%q", got)
		}
	}
}

// A client that goes is missed by the server, also when it had ended its request
// before, and also while the server has nothing to say.
func TestClientGoes(t *testing.T) {
	for _, half := range []bool{false, true} {
		client, server := newRelay(t).pair(t)
		_, err := io.WriteString(client, post)
		ok(t, err)
		if half {
			ok(t, client.CloseWrite())
			readAll(t, server)
		}
		ok(t, client.Close())
		if !half {
			readAll(t, server)
		}
		// The relay's own end is closed, without the server having written anything.
		raw, err := server.SyscallConn()
		ok(t, err)
		await(t, func() (gone bool) {
			ok(t, raw.Control(func(fd uintptr) {
				p := []unix.PollFd{{Fd: int32(fd)}}
				_, err := unix.Poll(p, 0)
				gone = err == nil && p[0].Revents&unix.POLLHUP != 0
			}))
			return gone
		})
	}
}

// A server that goes ends the client's connection, with all that it had sent.
func TestServerGoes(t *testing.T) {
	client, server := newRelay(t).pair(t)
	_, err := io.WriteString(server, "last words")
	ok(t, err)
	ok(t, server.Close())
	if got := readAll(t, client); got != "last words" {
		t.Errorf("%q", got)
	}
	await(t, func() bool {
		_, err := client.Write([]byte("x"))
		return err != nil
	})
}

func TestManyBytes(t *testing.T) {
	client, server := newRelay(t).pair(t)
	want := strings.Repeat("0123456789abcdef", 1<<18) // 4 MiB
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, c := range []*net.UnixConn{client, server} {
		wg.Go(func() {
			_, err := io.WriteString(c, want)
			if err := errors.Join(err, c.CloseWrite()); err != nil {
				t.Error(err)
			}
		})
	}
	for _, c := range []*net.UnixConn{client, server} {
		wg.Go(func() {
			if data, err := io.ReadAll(c); err != nil || string(data) != want {
				t.Errorf("%d bytes, %v", len(data), err)
			}
		})
	}
}

// Connections beyond the bound are closed, and there is place again when others end.
func TestMaxConns(t *testing.T) {
	r := newRelay(t)
	first, _ := r.pair(t)
	for range maxConns - 1 {
		r.pair(t)
	}
	beyond, err := net.Dial("unix", r.socket)
	ok(t, err)
	defer beyond.Close()
	if n, err := beyond.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("%d, %v", n, err)
	}
	ok(t, first.Close())
	var wg sync.WaitGroup
	wg.Go(func() {
		if c, err := r.server.AcceptUnix(); err == nil {
			io.Copy(c, c)
			c.Close()
		}
	})
	await(t, func() bool {
		c, err := net.Dial("unix", r.socket)
		ok(t, err)
		defer c.Close()
		_, _ = io.WriteString(c, "x") // closed already, or not yet
		n, _ := c.Read(make([]byte, 1))
		return n == 1
	})
	wg.Wait()
}

func TestListenerTooLong(t *testing.T) {
	if _, err := (folder{filepath.Join("/tmp", strings.Repeat("x", 120))}).listen(); err == nil {
		t.Error("listens")
	}
}
