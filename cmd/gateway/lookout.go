package main

import (
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"sync"
	"syscall"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/confine"
	"github.com/sallyport/sallyport/origin"
	"github.com/spf13/cobra"
)

// The lookout is the gateway's child, begun before the gateway confines itself. It
// does for it the two things that Landlock would not let it do: a confined process
// may not look into other processes (ptrace(2)), and a configuration whose file is
// replaced, or reached by a link that changes, is not the file that a rule named.
// It answers which process made an attempt, reads that one file, and does nothing
// else. Its end of the socket is its descriptor lookoutFD; when the gateway's is
// closed, it ends.
const (
	lookoutCommand = "lookout"
	lookoutFD      = 3
	lookoutHuge    = 2 << 20 // bytes of a file that are read; the configuration's own bound is lower
)

// question is one that the gateway asks; exactly one of Open, Find and Config is set.
type question struct {
	ID     uint64
	Open   *sandboxToLook
	Find   *attemptToLook
	Config bool
}

// sandboxToLook prepares to look: it is not answered.
type sandboxToLook struct {
	ID string
	origin.Sandbox
}

type attemptToLook struct {
	Of       sandboxToLook
	Proto    string
	Src, Dst netip.AddrPort
	Accepted bool
	Conn     uint64 // see origin.Accepted
	Inode    uint64 // the same
}

// answer is what the lookout says.
type answer struct {
	ID      uint64
	Process *audit.Process
	Text    []byte // of the configuration
	Errno   int    // why it could not be read; zero: it could, or Error says
	Error   string
}

func newLookoutCommand() *cobra.Command {
	return &cobra.Command{
		Use: lookoutCommand + " CONFIG", Hidden: true, Args: cobra.ExactArgs(1),
		Short: "Look at processes and the configuration for the gateway (started by gateway run)",
		RunE: func(_ *cobra.Command, args []string) error {
			if err := assertUnprivileged(); err != nil {
				return err
			}
			conn, err := fileConn(lookoutFD, lookoutCommand)
			if err != nil {
				return err
			}
			confine.Processors()
			return lookOut(conn, args[0])
		},
	}
}

// fileConn is the connection that a descriptor is which we were started with.
func fileConn(fd int, name string) (net.Conn, error) {
	syscall.CloseOnExec(fd)
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("take over the socket between gateway and lookout: %w", err)
	}
	return c, nil
}

// lookOut answers questions until the other end is closed.
func lookOut(conn net.Conn, config string) error {
	defer conn.Close()
	var finders finders
	var answering sync.WaitGroup
	defer answering.Wait()
	var mu sync.Mutex
	out := gob.NewEncoder(conn)
	say := func(a answer) {
		mu.Lock()
		defer mu.Unlock()
		_ = out.Encode(a) // who does not hear it is gone, and that ends us
	}
	for in := gob.NewDecoder(conn); ; {
		var q question
		if err := in.Decode(&q); errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
			return nil
		} else if err != nil {
			return fmt.Errorf("hear the gateway: %w", err)
		}
		switch {
		case q.Open != nil:
			finders.of(q.Open.ID, q.Open.Sandbox)
		case q.Find != nil:
			f := finders.of(q.Find.Of.ID, q.Find.Of.Sandbox)
			answering.Go(func() { say(answer{ID: q.ID, Process: q.Find.look(f)}) })
		case q.Config:
			answering.Go(func() { say(readFor(q.ID, config)) })
		}
	}
}

// look leaves it to the gateway, which has the connection, whether that is still open.
func (a *attemptToLook) look(f *origin.Finder) *audit.Process {
	if a.Accepted {
		return f.FindAccepted(origin.Accepted{Src: a.Src, Dst: a.Dst, Conn: a.Conn, Inode: a.Inode}, nil)
	}
	return f.Find(a.Proto, a.Src, a.Dst)
}

func readFor(id uint64, path string) answer {
	f, err := os.Open(path)
	if err == nil {
		defer f.Close()
		var text []byte
		if text, err = io.ReadAll(io.LimitReader(f, lookoutHuge)); err == nil {
			return answer{ID: id, Text: text}
		}
	}
	a := answer{ID: id, Error: err.Error()}
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		a.Errno = int(errno)
	}
	return a
}

// startLookout starts the lookout with what privileges this thread has, and returns
// the gateway's end of the socket, which is closed when another program is executed.
func startLookout(p process, config string) (ours *os.File, pid int, err error) {
	ends, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, 0, fmt.Errorf("make a socket for the lookout: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(ends[0]), "gateway"), os.NewFile(uintptr(ends[1]), lookoutCommand)
	defer theirs.Close()
	c := exec.Command("/proc/self/exe", lookoutCommand, config)
	c.Args[0], c.Env, c.Stdout, c.Stderr, c.ExtraFiles = os.Args[0], p.environ(), os.Stdout, os.Stderr, []*os.File{theirs}
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // a terminal's signals are for the gateway, and its end is ours
	if err := c.Start(); err != nil {
		ours.Close()
		return nil, 0, fmt.Errorf("start the lookout: %w", err)
	}
	return ours, c.Process.Pid, nil
}
