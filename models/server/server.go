package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"time"

	"github.com/sallyport/sallyport/machine"
	"github.com/sallyport/sallyport/models"
)

// Server is one model server on one machine. Its methods may be called at the
// same time, but Start.
type Server struct {
	Name    string           // required; [a-z0-9._-]
	Machine *machine.Machine // required; where it runs
	Runtime Runtime          // required
	Socket  string           // required; on the machine: where it is asked, an absolute path
	History *History         // of earlier starts; nil: none, no time left is told

	// Dial connects to the socket; nil: Machine.Dial.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Now is the clock; nil: time.Now.
	Now func() time.Time
	// Others lists the other servers on the machine and the memory that is free
	// there, for the hint when this one finds too little; nil: none are named.
	Others func(ctx context.Context) (others []Other, available int64, err error)
	// Pulling says whether the weights or the image of this model are being
	// fetched, and how far that is; nil: never.
	Pulling func(ctx context.Context) (detail string, pulling bool)
	// StopGrace is how long the server has to end by itself; zero: 30 s.
	StopGrace time.Duration

	after func(time.Duration) <-chan time.Time // nil: time.After; tests hand in their own

	began time.Time // by our clock, when Start has started it; zero: somebody else did
	need  int64     // bytes of memory that it needs; zero: unknown
}

// maxSocket is the longest path of a unix socket: sun_path of unix(7), less its
// closing zero.
const maxSocket = 107

// Start starts the server and returns long before it is ready: WaitReady follows
// it. One that runs already is ErrRunning.
func (s *Server) Start(ctx context.Context, l models.Launch) error {
	if err := s.check(); err != nil {
		return err
	}
	// The server's own socket lies beside it, under a name no longer than server.sock.
	if longest := filepath.Join(filepath.Dir(s.Socket), "server.sock"); max(len(longest), len(s.Socket)) > maxSocket {
		return fmt.Errorf("start model server %s on %s: the path of its socket is too long: %s has %d bytes, %d are possible\nhint: "+hintFolder,
			s.Name, s.place(), printable(longest, 2*maxSocket), max(len(longest), len(s.Socket)), maxSocket)
	}
	if err := s.Runtime.Start(ctx, l); err != nil {
		return err
	}
	s.began, s.need = s.now(), int64(l.Weights.GB)*1e9
	return nil
}

// Stop ends the server. One that does not run is no error.
func (s *Server) Stop(ctx context.Context) error {
	if err := s.check(); err != nil {
		return err
	}
	grace := s.StopGrace
	if grace <= 0 {
		grace = 30 * time.Second
	}
	return s.Runtime.Stop(ctx, grace)
}

// check refuses a Server that lacks something, or whose name could lead
// somewhere else: it is part of paths and of a container's name.
func (s *Server) check() error {
	switch {
	case s.Runtime == nil || s.Machine == nil && s.Dial == nil:
		return errors.New("model server: no machine or no runtime")
	case !validName(s.Name):
		return fmt.Errorf("model server %q: not a name\nhint: letters a-z, digits and . _ - only, a letter or digit first", printable(s.Name, maxName))
	case !filepath.IsAbs(s.Socket):
		return fmt.Errorf("model server %s: socket %q is not an absolute path", s.Name, printable(s.Socket, maxText))
	}
	return nil
}

func validName(name string) bool {
	if name == "" || len(name) > 63 || strings.ContainsRune("._-", rune(name[0])) {
		return false
	}
	for _, r := range name {
		if (r < 'a' || r > 'z') && (r < '0' || r > '9') && !strings.ContainsRune("._-", r) {
			return false
		}
	}
	return true
}

func (s *Server) now() time.Time {
	if s.Now != nil {
		return s.Now()
	}
	return time.Now()
}

func (s *Server) wait(d time.Duration) <-chan time.Time {
	if s.after != nil {
		return s.after(d)
	}
	return time.After(d)
}

func (s *Server) dial(ctx context.Context) (net.Conn, error) {
	if s.Dial != nil {
		return s.Dial(ctx, "unix", s.Socket)
	}
	return s.Machine.Dial(ctx, "unix", s.Socket)
}

// machineName is how the machine is called in History: "" for this one.
func (s *Server) machineName() string {
	if s.Machine == nil {
		return ""
	}
	return s.Machine.Name()
}

// place is how the machine is called for people.
func (s *Server) place() string {
	if s.Machine == nil {
		return "this machine"
	}
	return s.Machine.String()
}
