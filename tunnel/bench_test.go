package tunnel

import (
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"bufio"
)

// way of reaching a unix socket on the GPU host, to be compared.
type dialer func(t testing.TB, socket string) func() (net.Conn, error)

// ours is this package.
func ours(t testing.TB, s *sshd) dialer {
	c := start(t, s.host(t, s.port))
	return func(t testing.TB, socket string) func() (net.Conn, error) {
		return func() (net.Conn, error) { return c.Dial(t.Context(), "unix", socket) }
	}
}

// openSSH is `ssh -L` from a socket here to the socket there.
func openSSH(t testing.TB, s *sshd) dialer {
	h := s.host(t, s.port)
	key := s.write(t, "id_client", string(s.client.pem))
	return func(t testing.TB, socket string) func() (net.Conn, error) {
		local := filepath.Join(t.TempDir(), "local.sock")
		cmd := exec.Command("ssh", "-v", "-F", "none", "-N", "-L", local+":"+socket, "-p", fmt.Sprint(h.Port), "-i", key,
			"-o", "UserKnownHostsFile="+h.KnownHostsFile, "-o", "ExitOnForwardFailure=yes", "-c", "aes128-gcm@openssh.com", h.User+"@"+h.Addr)
		stderr, err := cmd.StderrPipe()
		ok(t, err)
		ok(t, cmd.Start())
		r := bufio.NewScanner(stderr)
		for r.Scan() && !strings.Contains(r.Text(), "Entering interactive session") {
		}
		drained := make(chan struct{})
		go func() { io.Copy(io.Discard, stderr); close(drained) }()
		t.Cleanup(func() {
			cmd.Process.Kill()
			<-drained
			cmd.Wait()
		})
		return func() (net.Conn, error) { return net.Dial("unix", local) }
	}
}

// each runs f for OpenSSH and for us, against one server.
func each(b *testing.B, f func(b *testing.B, d dialer)) {
	s := startSSHD(b, []string{"ed25519"}, "LogLevel INFO")
	b.Run("openssh", func(b *testing.B) { f(b, openSSH(b, s)) })
	b.Run("ours", func(b *testing.B) { f(b, ours(b, s)) })
}

func BenchmarkRoundTrip(b *testing.B) {
	each(b, func(b *testing.B, d dialer) {
		conn, err := d(b, listenUnix(b, echo))()
		ok(b, err)
		defer conn.Close()
		buf := make([]byte, 128)
		for b.Loop() {
			conn.Write(buf)
			if _, err := io.ReadFull(conn, buf); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkNewChannel(b *testing.B) {
	each(b, func(b *testing.B, d dialer) {
		dial := d(b, listenUnix(b, echo))
		buf := make([]byte, 1)
		for b.Loop() {
			conn, err := dial()
			ok(b, err)
			conn.Write(buf)
			if _, err := io.ReadFull(conn, buf); err != nil {
				b.Fatal(err)
			}
			conn.Close()
		}
	})
}

func BenchmarkBulk(b *testing.B) {
	for _, streams := range []int{1, 8} {
		b.Run(fmt.Sprint(streams), func(b *testing.B) {
			each(b, func(b *testing.B, d dialer) {
				block := make([]byte, 1<<20)
				dial := d(b, listenUnix(b, func(c net.Conn) {
					for {
						if _, err := c.Write(block); err != nil {
							return
						}
					}
				}))
				b.SetBytes(int64(streams) << 20)
				conns := make([]net.Conn, streams)
				for i := range conns {
					var err error
					conns[i], err = dial()
					ok(b, err)
					defer conns[i].Close()
				}
				for b.Loop() {
					var wg sync.WaitGroup
					for _, c := range conns {
						wg.Go(func() { io.CopyN(io.Discard, c, 1<<20) })
					}
					wg.Wait()
				}
			})
		})
	}
}
