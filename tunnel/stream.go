package tunnel

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
)

// stream is one channel as a net.Conn. The library's own can neither be
// interrupted nor have deadlines, and reports a lost link as an ordinary end of
// data; so two goroutines do its blocking calls.
type stream struct {
	link          *link
	ch            ssh.Channel
	local, remote net.Addr

	closed    chan struct{}
	closeOnce sync.Once

	readMu   sync.Mutex
	chunks   chan chunk // from readLoop; closed at the end, after readErr is set
	readErr  error
	rest     chunk // read, but not consumed yet
	readTill deadline

	writeMu   sync.Mutex
	writes    chan []byte // to writeLoop
	written   chan error  // from it
	writeErr  error       // once a write was given up, what arrived is unknown: no more writes
	writeTill deadline
}

func newStream(l *link, ch ssh.Channel, reqs <-chan *ssh.Request, t target) (net.Conn, error) {
	s := &stream{
		link: l, ch: ch,
		local: target{"ssh", l.host.Name}, remote: t.netAddr(),
		closed: make(chan struct{}),
		chunks: make(chan chunk),
		writes: make(chan []byte), written: make(chan error, 1),
		readTill: newDeadline(), writeTill: newDeadline(),
	}
	for _, f := range []func(){func() { ssh.DiscardRequests(reqs) }, s.readLoop, s.writeLoop} {
		if !l.start(f) {
			return nil, l.cause()
		}
	}
	return s, nil
}

// readLoop hands over what arrives. It reads at most one chunk ahead.
func (s *stream) readLoop() {
	defer close(s.chunks)
	size := 0
	for {
		c := s.link.bufs.get(size)
		n, err := s.ch.Read(*c.buf)
		if n > 0 {
			size = sizeAfter(size, n)
			c.data = (*c.buf)[:n]
			select {
			case s.chunks <- c:
			case <-s.closed:
				return
			}
			continue
		}
		s.link.bufs.put(c)
		if err != nil {
			s.readErr = s.lost(err)
			return
		}
	}
}

// writeLoop does one write at a time.
func (s *stream) writeLoop() {
	for {
		select {
		case p := <-s.writes:
			_, err := s.ch.Write(p)
			s.written <- err
		case <-s.closed:
			return
		case <-s.link.down:
			return
		}
	}
}

// lost replaces err by the link's end if that is what it comes from.
func (s *stream) lost(err error) error {
	if down := s.link.cause(); down != nil {
		return down
	}
	return err
}

// Read is net.Conn's. io.EOF means that the other side has ended the stream; a
// lost link is an error that errors.Is finds ErrLinkDown in.
func (s *stream) Read(p []byte) (int, error) {
	s.readMu.Lock()
	defer s.readMu.Unlock()
	if err := ready(s.closed, &s.readTill); err != nil {
		return 0, s.opError("read", err)
	}
	if len(p) == 0 {
		return 0, nil
	}
	if len(s.rest.data) == 0 {
		c, err := s.arrived()
		if err != nil {
			return 0, err
		}
		s.rest = c
	}
	n := copy(p, s.rest.data)
	if s.rest.data = s.rest.data[n:]; len(s.rest.data) == 0 {
		s.link.bufs.put(s.rest)
		s.rest = chunk{}
	}
	return n, nil
}

// arrived waits for the next chunk. s.readMu is held.
func (s *stream) arrived() (chunk, error) {
	select {
	case c, ok := <-s.chunks:
		switch {
		case ok:
			return c, nil
		case s.readErr == io.EOF:
			return chunk{}, io.EOF
		case s.readErr != nil:
			return chunk{}, s.opError("read", s.readErr)
		}
		return chunk{}, s.opError("read", net.ErrClosed)
	case <-s.closed:
		return chunk{}, s.opError("read", net.ErrClosed)
	case <-s.readTill.wait():
		return chunk{}, s.opError("read", os.ErrDeadlineExceeded)
	}
}

// Write is net.Conn's. After a write that a deadline cut short the stream can
// only be read and closed.
func (s *stream) Write(p []byte) (n int, err error) {
	s.writeMu.Lock()
	defer s.writeMu.Unlock()
	if err := s.writable(); err != nil {
		return 0, err
	}
	for n < len(p) {
		c := s.link.bufs.get(sizeFor(len(p) - n))
		c.data = (*c.buf)[:copy(*c.buf, p[n:])]
		if err := s.writeChunk(c); err != nil {
			return n, err
		}
		n += len(c.data)
	}
	return n, nil
}

// writable says why nothing can be written. s.writeMu is held.
func (s *stream) writable() error {
	if err := ready(s.closed, &s.writeTill); err != nil {
		return s.opError("write", err)
	}
	if s.writeErr != nil {
		return s.opError("write", s.writeErr)
	}
	return nil
}

// writeChunk waits until c is on its way, and puts it back. When it fails, c may
// still be in use, and stays where it is. s.writeMu is held.
func (s *stream) writeChunk(c chunk) error {
	if err := s.pass(c.data); err != nil {
		s.writeErr = err
		return s.opError("write", err)
	}
	s.link.bufs.put(c)
	return nil
}

// pass waits until p is on its way.
func (s *stream) pass(p []byte) error {
	select {
	case s.writes <- p:
	case <-s.closed:
		return net.ErrClosed
	case <-s.link.down:
		return s.link.cause()
	}
	select {
	case err := <-s.written:
		if err == io.EOF {
			err = s.lost(syscall.EPIPE)
		}
		return err
	case <-s.closed:
		return net.ErrClosed
	case <-s.link.down:
		return s.link.cause()
	case <-s.writeTill.wait():
		return os.ErrDeadlineExceeded
	}
}

// CloseWrite tells the other side that no more will be written.
func (s *stream) CloseWrite() error {
	s.writeMu.Lock()
	defer s.writeMu.Unlock()
	if s.writeErr != nil {
		return s.opError("close", s.writeErr)
	}
	s.writeErr = syscall.EPIPE
	if err := s.ch.CloseWrite(); err != nil {
		return s.opError("close", s.lost(err))
	}
	return nil
}

// Close ends both directions, and never waits for the network. Calls that are
// blocked return net.ErrClosed.
func (s *stream) Close() error {
	s.closeOnce.Do(func() {
		close(s.closed)
		s.readTill.set(time.Time{})
		s.writeTill.set(time.Time{})
		s.link.start(func() { s.ch.Close() }) // a link that is down has closed it
	})
	return nil
}

// LocalAddr names the SSH host: there is no local socket of this stream.
func (s *stream) LocalAddr() net.Addr { return s.local }

// RemoteAddr is what was dialled, as the SSH host sees it.
func (s *stream) RemoteAddr() net.Addr { return s.remote }

// SetDeadline is net.Conn's.
func (s *stream) SetDeadline(t time.Time) error {
	return errors.Join(s.SetReadDeadline(t), s.SetWriteDeadline(t))
}

// SetReadDeadline is net.Conn's; reading may go on after a new deadline.
func (s *stream) SetReadDeadline(t time.Time) error { return s.setDeadline(&s.readTill, t) }

// SetWriteDeadline is net.Conn's.
func (s *stream) SetWriteDeadline(t time.Time) error { return s.setDeadline(&s.writeTill, t) }

func (s *stream) setDeadline(d *deadline, t time.Time) error {
	select {
	case <-s.closed:
		return s.opError("set", net.ErrClosed)
	default:
		d.set(t)
		return nil
	}
}

func (s *stream) opError(op string, err error) error {
	return &net.OpError{Op: op, Net: s.remote.Network(), Addr: s.remote, Err: err}
}
