package proxy

import (
	"errors"
	"io"
	"net"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	pumpBuffer = 16 << 10  // bytes that are read at once
	pumpChunk  = 256 << 10 // bytes that are spliced before they are counted: a slow reader must take them within IdleTimeout
)

// pump copies from one TCP connection until it ends, as io.Copy does. An idle one
// holds neither a buffer nor a pipe: it takes a buffer once there is something to
// read, and what is more than a buffer at once it has the kernel move (splice(2)).
type pump struct {
	buffers *sync.Pool // of *[pumpBuffer]byte
	src     *net.TCPConn
	raw     syscall.RawConn // src
	write   func([]byte) (int, error)
	dst     *net.TCPConn // where write writes to; nil: nothing is spliced
	spliced func(n int64)
	total   int64

	// What follows is of one step. The functions are made once: each makes garbage.
	wait, ask func(fd uintptr) bool
	buf       *[pumpBuffer]byte // nil: none is held
	n         int
	err       error
	chunk     io.LimitedReader
}

// run returns how much was copied. may says whether it may be spliced by now.
func (p *pump) run(may func() bool) (int64, error) {
	var err error
	if p.raw, err = p.src.SyscallConn(); err != nil {
		return 0, err
	}
	p.wait, p.ask, p.chunk.R = p.fill, p.size, p.src
	for {
		full, err := p.piece()
		if err == nil && full && p.dst != nil && may() {
			err = p.splice()
		}
		switch {
		case err == io.EOF:
			return p.total, nil
		case err != nil:
			return p.total, err
		}
	}
}

// piece waits for bytes and writes them. full: there may be more.
func (p *pump) piece() (full bool, err error) {
	if err := p.raw.Read(p.wait); err != nil {
		return false, err
	}
	defer p.release()
	switch {
	case p.err != nil:
		return false, &net.OpError{Op: "read", Net: "tcp", Err: p.err}
	case p.n == 0:
		return false, io.EOF
	}
	n, err := p.write(p.buf[:p.n])
	p.total += int64(n)
	return p.n == len(p.buf), err
}

// fill reads into a buffer. It returns false, without one, where it has to wait.
func (p *pump) fill(fd uintptr) bool {
	p.buf = p.buffers.Get().(*[pumpBuffer]byte)
	for {
		p.n, p.err = unix.Read(int(fd), p.buf[:])
		if !errors.Is(p.err, unix.EINTR) {
			break
		}
	}
	if !errors.Is(p.err, unix.EAGAIN) {
		return true
	}
	p.release()
	return false
}

func (p *pump) release() {
	p.buffers.Put(p.buf)
	p.buf = nil
}

// splice moves what is there, chunk by chunk, until it is little.
func (p *pump) splice() error {
	for {
		if err := errors.Join(p.raw.Read(p.ask), p.err); err != nil || p.n < pumpBuffer {
			return err
		}
		p.chunk.N = int64(min(p.n, pumpChunk))
		n, err := p.dst.ReadFrom(&p.chunk)
		p.total += n
		p.spliced(n)
		if err != nil {
			return err
		}
	}
}

// size asks how many bytes are there to be read; it never waits.
func (p *pump) size(fd uintptr) bool {
	p.n, p.err = unix.IoctlGetInt(int(fd), unix.SIOCINQ)
	return true
}

// tcpOf is the TCP connection that conn wraps; nil: it wraps none.
func tcpOf(conn net.Conn) *net.TCPConn {
	for {
		switch c := conn.(type) {
		case *net.TCPConn:
			return c
		case interface{ NetConn() net.Conn }:
			conn = c.NetConn()
		default:
			return nil
		}
	}
}
