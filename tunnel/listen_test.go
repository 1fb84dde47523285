package tunnel

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

// listenThere listens on c's host until the test ends.
func listenThere(t *testing.T, c *Client) (net.Listener, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "back.sock")
	l, err := c.ListenUnix(testContext(t), path)
	ok(t, err)
	t.Cleanup(func() { l.Close() })
	return l, path
}

// connected is one connection from there to here.
func connected(t *testing.T, l net.Listener, path string) (there *net.UnixConn, here net.Conn) {
	t.Helper()
	conn, err := net.Dial("unix", path)
	ok(t, err)
	t.Cleanup(func() { conn.Close() })
	here, err = l.Accept()
	ok(t, err)
	t.Cleanup(func() { here.Close() })
	return conn.(*net.UnixConn), here
}

func TestListenUnix(t *testing.T) {
	s := startSSHD(t, []string{"ed25519"})
	c := start(t, s.host(t, s.port))
	l, path := listenThere(t, c)
	if a := l.Addr(); a.Network() != "unix" || a.String() != path {
		t.Errorf("address %v", a)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v: others may connect", st, err)
	}
	there, here := connected(t, l, path)
	serveEcho := make(chan struct{})
	go func() { defer close(serveEcho); echo(here); here.(*stream).CloseWrite() }()
	roundTrip(t, there, "there and back")
	ok(t, there.CloseWrite())
	<-serveEcho
	if n, err := there.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("after both half closes: %d, %v", n, err)
	}

	// The other direction closes first.
	there, here = connected(t, l, path)
	ok(t, here.(*stream).CloseWrite())
	if _, err := there.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("read there: %v", err)
	}
	io.WriteString(there, "still open")
	ok(t, there.CloseWrite())
	if b, err := io.ReadAll(here); string(b) != "still open" || err != nil {
		t.Errorf("read here: %q, %v", b, err)
	}
}

func TestListenUnixClose(t *testing.T) {
	s := startSSHD(t, []string{"ed25519"})
	c := start(t, s.host(t, s.port))
	l, path := listenThere(t, c)
	there, here := connected(t, l, path)
	go echo(here)
	accepted := make(chan error, 1)
	go func() {
		_, err := l.Accept()
		accepted <- err
	}()
	ok(t, l.Close())
	if err := <-accepted; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept: %v", err)
	}
	if err := l.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the second Close: %v", err)
	}
	if _, err := net.Dial("unix", path); err == nil {
		t.Error("the host still listens")
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("sshd does remove the socket's file (%v): correct the doc of ListenUnix", err)
	}
	roundTrip(t, there, "an accepted connection stays")
}

func TestListenUnixLinkLost(t *testing.T) {
	s := startSSHD(t, []string{"ed25519"})
	r := newRelay(t, fmt.Sprintf("127.0.0.1:%d", s.port))
	c := start(t, s.host(t, r.port))
	l, path := listenThere(t, c)
	_, here := connected(t, l, path)
	r.drop()
	if _, err := l.Accept(); !errors.Is(err, ErrLinkDown) {
		t.Errorf("Accept: %v", err)
	}
	if _, err := here.Read(make([]byte, 1)); !errors.Is(err, ErrLinkDown) {
		t.Errorf("read: %v", err)
	}
	ok(t, l.Close())

	// The next link may listen; what the lost one left is in its way.
	_, err := c.ListenUnix(testContext(t), path)
	var f *ForwardError
	if !errors.As(err, &f) || !strings.Contains(err.Error(), "StreamLocalBindUnlink") {
		t.Errorf("with the old socket in the way: %v", err)
	}
	os.Remove(path)
	l, err = c.ListenUnix(testContext(t), path)
	ok(t, err)
	defer l.Close()
	there, here := connected(t, l, path)
	go echo(here)
	roundTrip(t, there, "over the next link")
}

func TestListenUnixRefused(t *testing.T) {
	plain := startSSHD(t, []string{"ed25519"})
	for _, tt := range []struct {
		name string
		conf []string
		ok   bool
	}{
		{"streamlocal", []string{"AllowStreamLocalForwarding no"}, false},
		{"streamlocal local", []string{"AllowStreamLocalForwarding local"}, false},
		{"streamlocal remote", []string{"AllowStreamLocalForwarding remote"}, true},
		{"tcp", []string{"AllowTcpForwarding no"}, false}, // sshd_config(5) does not say so
		{"tcp local", []string{"AllowTcpForwarding local"}, false},
		{"tcp remote", []string{"AllowTcpForwarding remote"}, true},
		{"ports to listen at", []string{"PermitListen 8080"}, true},
		{"all", []string{"DisableForwarding yes"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := startSSHD(t, []string{"ed25519"}, tt.conf...)
			c := start(t, s.host(t, s.port))
			l, err := c.ListenUnix(testContext(t), filepath.Join(t.TempDir(), "back.sock"))
			var f *ForwardError
			switch {
			case tt.ok && err != nil:
				t.Error(err)
			case tt.ok:
				l.Close()
			case !errors.As(err, &f) || f.Host != "gpu" || errors.Is(err, ErrLinkDown) || !strings.Contains(err.Error(), "AllowStreamLocalForwarding"):
				t.Errorf("got %v", err)
			}
		})
	}
	c := start(t, plain.host(t, plain.port))
	taken, path := listenThere(t, c)
	long := "/" + strings.Repeat("x", maxSocketPath)
	for at, want := range map[string]string{
		path:                                    "listens there already",
		"back.sock":                             "not absolute",
		long:                                    "at most 107",
		"/a\x00b":                               "NUL",
		filepath.Join(t.TempDir(), "no", "dir"): "may the login write",
	} {
		if _, err := c.ListenUnix(testContext(t), at); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\x00") {
			t.Errorf("%q: %v; want %q", at, err, want)
		}
	}
	there, here := connected(t, taken, path)
	go echo(here)
	roundTrip(t, there, "the first listener is still there")
}

// More connections than anyone accepts are refused, not piled up.
func TestListenUnixBacklog(t *testing.T) {
	s := startSSHD(t, []string{"ed25519"})
	c := start(t, s.host(t, s.port))
	l, path := listenThere(t, c)
	var conns []net.Conn
	for range maxPending {
		conn, err := net.Dial("unix", path)
		ok(t, err)
		defer conn.Close()
		conns = append(conns, conn)
	}
	over, err := net.Dial("unix", path)
	ok(t, err)
	defer over.Close()
	if _, err := over.Read(make([]byte, 1)); err == nil {
		t.Error("one too many was kept")
	}
	for i, conn := range conns {
		here, err := l.Accept()
		ok(t, err)
		go func() { echo(here); here.Close() }()
		roundTrip(t, conn, fmt.Sprint("connection ", i))
	}
	ok(t, l.Close())
}

// A server that opens channels of its own accord is refused, whatever it says
// that they are; the link lives on.
func TestForeignChannelsRejected(t *testing.T) {
	rogue := newRogue(t, "")
	c := start(t, rogue.host(t))
	path := "/run/back.sock"
	l, err := c.ListenUnix(testContext(t), path)
	ok(t, err)
	forwarded := func(path string) []byte { return ssh.Marshal(struct{ Path, Reserved string }{path, ""}) }
	for _, tt := range []struct {
		kind    string
		payload []byte
		ok      bool
	}{
		{"forwarded-streamlocal@openssh.com", forwarded(path), true},
		{"forwarded-streamlocal@openssh.com", forwarded("/run/other.sock"), false},
		{"forwarded-streamlocal@openssh.com", forwarded(path + "\x00"), false},
		{"forwarded-streamlocal@openssh.com", []byte("garbage"), false},
		{"forwarded-streamlocal@openssh.com", nil, false},
		{"forwarded-tcpip", forwarded(path), false},
		{"session", nil, false},
		{"x11", nil, false},
		{"auth-agent@openssh.com", nil, false},
	} {
		if err := rogue.open(tt.kind, tt.payload); (err == nil) != tt.ok {
			t.Errorf("%s %q: %v", tt.kind, tt.payload, err)
		}
	}
	ok(t, l.Close())
	if err := rogue.open("forwarded-streamlocal@openssh.com", forwarded(path)); err == nil {
		t.Error("a channel was accepted after Close")
	}
	if st := c.State(); !st.Up || st.Reconnects != 0 {
		t.Errorf("state %+v", st)
	}
}

// A jump host may not play the host that listens.
func TestJumpHostOpensNothing(t *testing.T) {
	far := startSSHD(t, []string{"ed25519"})
	rogue := newRogue(t, fmt.Sprintf("127.0.0.1:%d", far.port))
	h, hop := far.host(t, far.port), rogue.host(t)
	hop.Name = "bastion"
	h.Jump = []Host{hop}
	c := start(t, h)
	l, path := listenThere(t, c)
	if err := rogue.open("forwarded-streamlocal@openssh.com", ssh.Marshal(struct{ Path, Reserved string }{path, ""})); err == nil {
		t.Error("the jump host opened a channel in the host's name")
	}
	there, here := connected(t, l, path)
	go echo(here)
	roundTrip(t, there, "the host itself may")
}

// rogue is a stand-in for a hostile host's SSH server: it grants each request, and opens
// channels as it likes.
type rogue struct {
	addr   *net.TCPAddr
	key    keyPair
	client keyPair
	conn   chan *ssh.ServerConn
	behind string // address that each channel leads to; empty: channels are refused
}

func newRogue(t *testing.T, behind string) *rogue {
	t.Helper()
	r := &rogue{behind: behind, key: newKey(t, "ed25519"), client: newKey(t, "ed25519"), conn: make(chan *ssh.ServerConn, 1)}
	cfg := &ssh.ServerConfig{PublicKeyCallback: func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) { return nil, nil }}
	cfg.AddHostKey(r.key.signer)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	r.addr = l.Addr().(*net.TCPAddr)
	serve(t, l, func(c net.Conn) {
		conn, chans, reqs, err := ssh.NewServerConn(c, cfg)
		if err != nil {
			return
		}
		go func() {
			for ch := range chans {
				if ch.ChannelType() == "session" {
					diesAfterStatus(conn, ch)
					continue
				}
				if r.behind == "" {
					ch.Reject(ssh.Prohibited, "no")
					continue
				}
				r.pass(ch)
			}
		}()
		select {
		case <-r.conn: // an earlier connection
		default:
		}
		r.conn <- conn
		for req := range reqs {
			if req.WantReply {
				req.Reply(true, nil)
			}
		}
	})
	return r
}

func (r *rogue) host(t *testing.T) Host {
	t.Helper()
	known := fmt.Sprintf("[127.0.0.1]:%d %s", r.addr.Port, r.key.authorized())
	file := filepath.Join(t.TempDir(), "known_hosts")
	ok(t, os.WriteFile(file, []byte(known), 0o600))
	return Host{Name: "gpu", Addr: "127.0.0.1", Port: uint16(r.addr.Port), User: "me",
		KnownHosts: fromFile + file + "\n" + known, KnownHostsFile: file,
		Keys: []Key{{Path: "id_test", PEM: r.client.pem, Public: r.client.public.Marshal()}}}
}

// pass joins a channel with what is behind.
func (r *rogue) pass(c ssh.NewChannel) {
	ch, reqs, err := c.Accept()
	if err != nil {
		return
	}
	go ssh.DiscardRequests(reqs)
	out, err := net.Dial("tcp", r.behind)
	if err != nil {
		ch.Close()
		return
	}
	go func() {
		io.Copy(out, ch)
		out.Close()
	}()
	go func() {
		io.Copy(ch, out)
		ch.Close()
	}()
}

// open opens a channel to the client.
func (r *rogue) open(kind string, payload []byte) error {
	conn := <-r.conn
	defer func() { r.conn <- conn }()
	ch, reqs, err := conn.OpenChannel(kind, payload)
	if err != nil {
		return err
	}
	go ssh.DiscardRequests(reqs)
	return ch.Close()
}
