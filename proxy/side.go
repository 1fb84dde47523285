package proxy

import (
	"io"
	"net"
	"sync"
)

// side is one end of a tunnel. It keeps half-close, which goproxy does only
// where both ends have CloseRead and CloseWrite.
type side struct {
	net.Conn
	t    *tunnel
	once sync.Once
	shut bool // under t.mu
}

func (s *side) CloseWrite() error { return closeWrite(s.Conn, s) }
func (s *side) CloseRead() error  { return closeRead(s.Conn) }

func (s *side) Close() error {
	err := net.ErrClosed
	s.once.Do(func() {
		err = s.Conn.Close()
		s.t.mu.Lock()
		s.shut = true
		s.t.mu.Unlock()
		s.t.sideClosed()
	})
	return err
}

// targetSide is the end that faces the target.
type targetSide struct{ *side }

// Read counts what goes to the container.
func (s targetSide) Read(p []byte) (int, error) {
	n, err := s.Conn.Read(p)
	s.t.out.Add(int64(n))
	s.t.touch()
	return n, err
}

// Write holds back the container's first message until it is known to be for
// the host that was granted.
func (s targetSide) Write(p []byte) (int, error) {
	s.t.touch()
	s.t.in.Add(int64(len(p)))
	if s.t.gate.open {
		return s.Conn.Write(p)
	}
	pass, refused := s.t.gate.add(p)
	s.t.mu.Lock()
	s.t.sni = s.t.gate.sni
	s.t.mu.Unlock()
	if refused != "" {
		return 0, s.t.refuse(refused)
	}
	if len(pass) > 0 {
		if _, err := s.Conn.Write(pass); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// CloseWrite refuses a tunnel whose first message never got complete.
func (s targetSide) CloseWrite() error {
	if refused := s.t.gate.end(); refused != "" {
		return s.t.refuse(refused)
	}
	return s.side.CloseWrite()
}

// pumped is a targetSide whose two directions io.Copy leaves to a pump.
type pumped struct{ targetSide }

// ReadFrom copies what the container sends. Its first message goes by Write,
// which holds it back.
func (s pumped) ReadFrom(r io.Reader) (int64, error) {
	from, ok := r.(*side)
	if !ok || tcpOf(from.Conn) == nil {
		return io.Copy(s.targetSide, r)
	}
	p := pump{buffers: &s.t.g.s.buffers, src: tcpOf(from.Conn), write: s.Write, dst: tcpOf(s.Conn), spliced: func(n int64) {
		s.t.in.Add(n)
		s.t.touch()
	}}
	return p.run(func() bool { return s.t.gate.open })
}

// WriteTo copies what goes to the container.
func (s pumped) WriteTo(w io.Writer) (int64, error) {
	to, ok := w.(*side)
	if !ok || tcpOf(s.Conn) == nil {
		return io.Copy(w, s.targetSide)
	}
	count := func(n int64) {
		s.t.out.Add(n)
		s.t.touch()
	}
	p := pump{buffers: &s.t.g.s.buffers, src: tcpOf(s.Conn), dst: tcpOf(to.Conn), spliced: count, write: func(b []byte) (int, error) {
		count(int64(len(b)))
		return to.Write(b)
	}}
	return p.run(func() bool { return true })
}
