package vllm

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"syscall"
)

// backlog is uvicorn's.
const backlog = 2048

// socket is bound long before it listens: vLLM binds it before it loads the
// engine (vllm#8204), and uvicorn listens when that is done. Until then a connect
// is refused. The file of a unix socket is neither removed before nor after.
type socket struct {
	fd       int
	name     string
	listener net.Listener // nil until listen
}

func (s *socket) String() string { return s.name }

// bind makes the socket of --uds, or of --host and --port.
func (p *process) bind() (*socket, error) {
	if path := p.options.value("--uds", ""); path != "" {
		fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("socket: %w", err)
		}
		s := &socket{fd: fd, name: "unix:" + path}
		if err := syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}); err != nil {
			s.close()
			return nil, bindError(err)
		}
		return s, nil
	}
	host, port := p.options.value("--host", "0.0.0.0"), p.options.number("--port", 8000)
	ip := net.ParseIP(host).To4()
	if ip == nil {
		return nil, fmt.Errorf("the stand-in listens on IPv4 addresses only, not on %q", host)
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	s := &socket{fd: fd}
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		s.close()
		return nil, fmt.Errorf("socket: %w", err)
	}
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Port: port, Addr: [4]byte(ip)}); err != nil {
		s.close()
		return nil, bindError(err)
	}
	if bound, err := syscall.Getsockname(fd); err == nil { // port 0 is any
		if at, ok := bound.(*syscall.SockaddrInet4); ok {
			port = at.Port
		}
	}
	s.name = "http://" + net.JoinHostPort(host, strconv.Itoa(port))
	return s, nil
}

// bindError is Python's text.
func bindError(err error) error {
	if errno, ok := err.(syscall.Errno); ok {
		return failure{"APIServer", fmt.Sprintf("OSError: [Errno %d] %s", int(errno), capital(errno.Error()))}
	}
	return err
}

func capital(s string) string {
	if s == "" || s[0] < 'a' || s[0] > 'z' {
		return s
	}
	return string(s[0]-'a'+'A') + s[1:]
}

// listen takes connections from now on; a second call does nothing.
func (s *socket) listen() error {
	if s.listener != nil {
		return nil
	}
	if err := syscall.Listen(s.fd, backlog); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	file := os.NewFile(uintptr(s.fd), s.name)
	defer file.Close() // FileListener has a copy
	s.fd = -1
	l, err := net.FileListener(file)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false)
	}
	s.listener = l
	return nil
}

func (s *socket) close() {
	if s.fd >= 0 {
		_ = syscall.Close(s.fd)
		s.fd = -1
	}
	if s.listener != nil {
		_ = s.listener.Close()
	}
}
