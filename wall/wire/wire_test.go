package wire

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair returns the two ends of a connection on a wall socket.
func pair(t testing.TB) (client, server *Conn) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err = Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	c, err := l.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	server = NewConn(c)
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

func pipes(t *testing.T, n int) []*os.File {
	t.Helper()
	var files []*os.File
	for range n {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		w.Close()
		files = append(files, r)
	}
	t.Cleanup(func() { CloseAll(files) })
	return files
}

// descriptors counts those of this process.
func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func TestMessageArrivesWithItsFiles(t *testing.T) {
	client, server := pair(t)
	sent := Message{Hello: &Hello{Role: RoleHold, Token: "t", IPv6: true}}
	files := pipes(t, 2)
	if err := client.Send(sent, files...); err != nil {
		t.Fatal(err)
	}
	got, received, err := server.Receive()
	if err != nil {
		t.Fatal(err)
	}
	defer CloseAll(received)
	if !reflect.DeepEqual(got, sent) || len(received) != 2 {
		t.Fatalf("got %+v with %d files", got, len(received))
	}
	for i, f := range received {
		want, _ := files[i].Stat()
		is, _ := f.Stat()
		if !os.SameFile(want, is) {
			t.Errorf("file %d is another one", i)
		}
		if flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("file %d would be inherited: flags %x, %v", i, flags, err)
		}
	}
}

func TestEndIsEOF(t *testing.T) {
	client, server := pair(t)
	client.Close()
	if _, _, err := server.Receive(); !errors.Is(err, io.EOF) {
		t.Fatalf("got %v", err)
	}
}

// What a peer sends wrongly leaves no descriptor open here.
func TestBadMessagesLeaveNoFiles(t *testing.T) {
	good := []byte(`{"netns":{}}`)
	for name, c := range map[string]struct {
		data  []byte
		files int
	}{
		"three files":       {good, 3},
		"many files":        {good, 200},
		"nonsense":          {[]byte("nonsense"), 1},
		"two kinds":         {[]byte(`{"netns":{},"replug":{}}`), 2},
		"an empty message":  {nil, 1},
		"a message too big": {[]byte(`{"refused":{"reason":"` + strings.Repeat("x", MaxMessage) + `"}}`), 1},
	} {
		t.Run(name, func(t *testing.T) {
			client, server := pair(t)
			files := pipes(t, c.files)
			fds := make([]int, len(files))
			for i, f := range files {
				fds[i] = int(f.Fd())
			}
			before := descriptors(t)
			sendRaw(t, client, c.data, unix.UnixRights(fds...))
			if m, _, err := server.Receive(); err == nil {
				t.Errorf("it was taken: %+v", m)
			}
			if after := descriptors(t); after != before {
				t.Errorf("%d descriptors before, %d after", before, after)
			}
		})
	}
}

// sendRaw is sendmsg(2); package net would add a byte to an empty message.
func sendRaw(t *testing.T, c *Conn, data, rights []byte) {
	t.Helper()
	raw, err := c.c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	m := unix.Msghdr{Control: &rights[0]}
	m.SetControllen(len(rights))
	if len(data) > 0 {
		m.Iov = &unix.Iovec{Base: &data[0], Len: uint64(len(data))}
		m.SetIovlen(1)
	}
	var errno syscall.Errno
	raw.Control(func(fd uintptr) { _, _, errno = unix.Syscall(unix.SYS_SENDMSG, fd, uintptr(unsafe.Pointer(&m)), 0) })
	runtime.KeepAlive(data)
	if errno != 0 {
		t.Fatal(errno)
	}
}

func TestSendRefusesWhatIsTooBig(t *testing.T) {
	client, _ := pair(t)
	err := client.Send(Message{Refused: &Refused{Reason: strings.Repeat("x", MaxMessage)}})
	if err == nil || !strings.Contains(err.Error(), "over the limit") {
		t.Fatalf("got %v", err)
	}
}

// A full batch of packets, the largest message there is, fits.
func TestSnapLenFits(t *testing.T) {
	client, server := pair(t)
	const most = 128
	packets, lost, begun := make([]Packet, most), make([]Lost, most), make([]Begun, most)
	for i := range most {
		packets[i] = Packet{Time: 1 << 62, Sandbox: "0123456789ab", Rule: "fragment", Data: make([]byte, SnapLen)}
		lost[i] = Lost{Sandbox: "0123456789ab", Rule: "fragment", Packets: 1<<64 - 1}
		begun[i] = Begun{Sandbox: "0123456789ab", Segments: 1<<64 - 1, Settled: 1<<64 - 1}
	}
	if err := client.Send(Message{Packets: &Packets{Packets: packets, Lost: lost, Begun: begun}}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := server.Receive(); err != nil {
		t.Fatal(err)
	}
}

func TestSendDoesNotWaitForeverForAPeerThatDoesNotRead(t *testing.T) {
	client, _ := pair(t)
	client.timeout = 20 * time.Millisecond
	big := Message{Refused: &Refused{Reason: strings.Repeat("x", MaxMessage/2)}}
	for range 1000 {
		if err := client.Send(big); err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatal("1000 messages were taken by a peer that reads none")
}

func TestParseRefuses(t *testing.T) {
	for _, text := range []string{
		``, `{}`, `null`, `[]`, `{"hello":null}`, `{"hello":{"role":"wall"},"ready":{}}`, `{"unknown":{}}`,
		`{"hello":{"role":"wall","uid":0}}`, `{"replug":{}}{"replug":{}}`, `{"replug":{}} x`,
		`{"plug":{"sandbox":"a","wall4":"10.0.0.1"}}`,
	} {
		if m, err := Parse([]byte(text)); err == nil {
			t.Errorf("%s was taken as %+v", text, m)
		} else if !reflect.DeepEqual(m, Message{}) {
			t.Errorf("%s: error and message: %+v", text, m)
		}
	}
}

func TestValidSandbox(t *testing.T) {
	for id, want := range map[string]bool{
		"0123456789ab": true, "": false, "0123456789a": false, "0123456789abc": false, "0123456789AB": false,
		"0123456789a\n": false, "../../../../": false, "0123456789ab\n": false,
	} {
		if ValidSandbox(id) != want {
			t.Errorf("%q: not %v", id, want)
		}
	}
}
