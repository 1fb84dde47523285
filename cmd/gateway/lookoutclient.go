package main

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/origin"
	"golang.org/x/sys/unix"
)

const (
	lookoutWaiting = 4096                 // questions that wait for an answer
	lookoutPatient = 2 * time.Second      // for an answer, as origin itself is
	lookoutBusy    = 5 * time.Millisecond // that it is spared once it says that it is busy: it may look for a quarter of that
	lookoutGone    = "what looks at processes has ended"
)

var errLookoutGone = errors.New("the gateway's lookout has ended; hint: gateway down, and start again")

// lookout is the gateway's end of the conversation with its lookout.
type lookout struct {
	conn net.Conn
	pid  int // zero: not our child
	log  *slog.Logger

	conns     atomic.Uint64 // the last number that a connection got
	questions chan question
	ended     chan struct{} // closed when nothing is answered any more
	tasks     sync.WaitGroup

	mu      sync.Mutex
	last    uint64
	waiting map[uint64]chan answer
}

// newLookout talks over conn until Close.
func newLookout(conn net.Conn, pid int, log *slog.Logger) *lookout {
	l := &lookout{conn: conn, pid: pid, log: log, questions: make(chan question, lookoutWaiting), ended: make(chan struct{}), waiting: map[uint64]chan answer{}}
	l.tasks.Go(l.hear)
	l.tasks.Go(l.speak)
	return l
}

// Close ends the lookout and waits for it, unless it is stopped: a confined process
// may not kill it, and it ends by itself when it goes on.
func (l *lookout) Close() {
	l.conn.Close()
	l.tasks.Wait()
	if l.pid <= 0 {
		return
	}
	fd, err := unix.PidfdOpen(l.pid, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	end := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for { // a signal to this process starts the time anew, which does no harm
		if _, err := unix.Poll(end, int(lookoutPatient.Milliseconds())); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	_, _ = unix.Wait4(l.pid, nil, unix.WNOHANG, nil)
}

// hear takes answers until the lookout ends, or Close.
func (l *lookout) hear() {
	defer close(l.ended)
	for in := gob.NewDecoder(l.conn); ; {
		var a answer
		if err := in.Decode(&a); err != nil {
			if !errors.Is(err, net.ErrClosed) {
				l.log.Error("the lookout has ended: who makes an attempt is not known from now on; hint: gateway down, and start again", "err", err)
			}
			return
		}
		l.mu.Lock()
		c := l.waiting[a.ID]
		delete(l.waiting, a.ID)
		l.mu.Unlock()
		if c != nil {
			c <- a
		}
	}
}

// speak sends questions; a lookout that does not read holds up nobody else.
func (l *lookout) speak() {
	out := gob.NewEncoder(l.conn)
	for {
		select {
		case q := <-l.questions:
			if out.Encode(q) != nil {
				return // hear has noticed, or will
			}
		case <-l.ended:
			return
		}
	}
}

// ask waits for an answer; an error says that there was none in time.
func (l *lookout) ask(ctx context.Context, q question) (answer, error) {
	c := make(chan answer, 1)
	l.mu.Lock()
	if len(l.waiting) >= lookoutWaiting {
		l.mu.Unlock()
		return answer{}, errors.New(origin.Busy)
	}
	l.last++
	q.ID = l.last
	l.waiting[q.ID] = c
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		delete(l.waiting, q.ID)
		l.mu.Unlock()
	}()
	select {
	case l.questions <- q:
	default:
		return answer{}, errors.New(origin.Busy)
	}
	ctx, cancel := context.WithTimeout(ctx, lookoutPatient)
	defer cancel()
	select {
	case a := <-c:
		return a, nil
	case <-l.ended:
		return answer{}, errLookoutGone
	case <-ctx.Done():
		return answer{}, errors.New(origin.Slow)
	}
}

// openConfig reads the configuration as os.Open would; its path was said when the
// lookout was started.
func (l *lookout) openConfig(path string) (io.ReadCloser, error) {
	a, err := l.ask(context.Background(), question{Config: true})
	switch {
	case err != nil:
		return nil, err
	case a.Errno != 0:
		return nil, &fs.PathError{Op: "open", Path: path, Err: syscall.Errno(a.Errno)}
	case a.Error != "":
		return nil, errors.New(a.Error)
	}
	return io.NopCloser(bytes.NewReader(a.Text)), nil
}

// open returns who finds the processes of a sandbox. The lookout is told at once,
// so that the holder's pid is still its own. sockets may be nil.
func (l *lookout) open(id string, s origin.Sandbox, sockets *origin.Sockets) finder {
	f := l.of(id, s)
	f.sockets = sockets
	select {
	case l.questions <- question{Open: &f.sandbox}:
	default: // it is busy, and the first attempt will tell it
	}
	return f
}

// of is open without telling: the sandbox is served already, or was.
func (l *lookout) of(id string, s origin.Sandbox) *farFinder {
	return &farFinder{lookout: l, sandbox: sandboxToLook{id, s}, made: time.Now()}
}

// finder says who made an attempt.
type finder interface {
	Find(proto string, src, dst netip.AddrPort) *audit.Process
	FindAccepted(conn uint64, src, dst netip.AddrPort, open func() bool) *audit.Process
}

// farFinder has the lookout look.
type farFinder struct {
	lookout *lookout
	sandbox sandboxToLook
	sockets *origin.Sockets // of the sandbox; nil: the lookout reads their tables
	made    time.Time
	spared  atomic.Int64 // when it is asked again, as a time since made
}

func (f *farFinder) Find(proto string, src, dst netip.AddrPort) *audit.Process {
	return f.find(attemptToLook{Of: f.sandbox, Proto: proto, Src: src, Dst: dst})
}

func (f *farFinder) FindAccepted(conn uint64, src, dst netip.AddrPort, open func() bool) *audit.Process {
	p := f.find(attemptToLook{Of: f.sandbox, Proto: "tcp", Src: src, Dst: dst, Accepted: true, Conn: conn})
	if p.Unknown == "" && !open() {
		return &audit.Process{Unknown: origin.Gone}
	}
	return p
}

func (f *farFinder) find(a attemptToLook) *audit.Process {
	if int64(time.Since(f.made)) < f.spared.Load() {
		return &audit.Process{Unknown: origin.Busy} // as it would say, without the two ways
	}
	if a.Accepted {
		a.Inode = f.sockets.Inode(a.Src, a.Dst)
	}
	said, err := f.lookout.ask(context.Background(), question{Find: &a})
	switch {
	case errors.Is(err, errLookoutGone):
		return &audit.Process{Unknown: lookoutGone}
	case err != nil:
		return &audit.Process{Unknown: err.Error()}
	case said.Process == nil:
		return &audit.Process{Unknown: origin.Changing}
	case said.Process.Unknown == origin.Busy:
		f.spared.Store(int64(time.Since(f.made) + lookoutBusy))
	}
	return said.Process
}

// takeOverLookout continues the conversation that this process began before it
// confined itself.
func takeOverLookout(fd, pid int, log *slog.Logger) (*lookout, error) {
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err != nil || st.Mode&syscall.S_IFMT != syscall.S_IFSOCK {
		return nil, fmt.Errorf("take over the lookout: descriptor %d is no socket (%w)", fd, errors.Join(err, os.ErrInvalid))
	}
	conn, err := fileConn(fd, "gateway")
	if err != nil {
		return nil, err
	}
	return newLookout(conn, pid, log), nil
}
