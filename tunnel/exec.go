package tunnel

import (
	"context"
	"fmt"
	"io"
)

// Exec is one command for a host. The login's shell there gets Command, with -c;
// there is no terminal.
type Exec struct {
	Command        string
	Stdin          io.Reader // nil: empty
	Stdout, Stderr io.Writer // nil: dropped
}

// ExitError says that a command ended, and not with exit status 0.
type ExitError struct {
	Code   int    // exit status; -1 if none was told
	Signal string // that ended it, without SIG, e.g. "KILL"; empty: none, or not told
}

func (e *ExitError) Error() string {
	switch {
	case e.Signal != "":
		return "ended by signal " + e.Signal
	case e.Code < 0:
		return "ended without an exit status"
	default:
		return fmt.Sprintf("exit status %d", e.Code)
	}
}

// Exec runs a command on the host until it has ended and its output is closed: a
// child that it leaves behind must not keep its stdout or stderr. Without a link
// it waits as Dial does. A command that ends with another status than 0 gives an
// *ExitError; a link lost meanwhile, an error that errors.Is finds ErrLinkDown
// in: the command may have run, and is never run again. When ctx ends, or e's
// Stdin or a writer fails, the command gets signal TERM and its channel is
// closed, whether it ends or not. OpenSSH passes no signal on to what root runs,
// nor to a forced command: these see no more than the end of their stdin, which
// therefore does not prove that all of it came.
//
// Stdout and Stderr are written to by this call alone. At most one Read of Stdin
// is still under way when it returns.
func (c *Client) Exec(ctx context.Context, e Exec) error {
	var s *session
	if err := c.overLink(ctx, func(ctx context.Context, l *link) (err error) {
		s, err = l.session(ctx, c.host.Name)
		return err
	}); err != nil {
		return err
	}
	defer s.end()
	if err := s.begin(ctx, e.Command); err != nil {
		return err
	}
	return s.follow(ctx, e, s.feed(e.Stdin))
}
