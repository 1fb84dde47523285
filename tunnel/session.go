package tunnel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/crypto/ssh"
)

// session is one session channel: one command.
type session struct {
	link *link
	via  string // the host's name
	ch   ssh.Channel

	ended          chan struct{} // closed by end
	over           bool          // the command ended by itself
	stdout, stderr chan chunk    // from readers; closed at the end
	exit           chan *ExitError
}

// session opens a session channel, ready for its one command.
func (l *link) session(ctx context.Context, via string) (*session, error) {
	ch, reqs, err := l.open(ctx, "session", nil)
	var refused *ssh.OpenChannelError
	if errors.As(err, &refused) {
		// sshd counts a session until it has dealt with all that came with the session's
		// close. A new one may have come with it, too; when its refusal is here, that is over.
		ch, reqs, err = l.open(ctx, "session", nil)
	}
	switch {
	case errors.As(err, &refused):
		return nil, &reworded{fmt.Sprintf("%s runs no further command: %s; sshd there has a limit of commands at the same time "+
			"(MaxSessions in sshd_config, 10 if not set; 0 forbids all)", via, printable(refused.Message)), err}
	case errors.Is(err, ErrLinkDown):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("open a session on %s: no answer in time: %w", via, err)
	}
	s := &session{link: l, via: via, ch: ch, ended: make(chan struct{}),
		stdout: make(chan chunk), stderr: make(chan chunk), exit: make(chan *ExitError, 1)}
	for _, f := range []func(){
		func() { s.requests(reqs) },
		func() { s.read(ch, s.stdout) },
		func() { s.read(ch.Stderr(), s.stderr) },
	} {
		if !l.start(f) {
			return nil, l.cause()
		}
	}
	return s, nil
}

// begin has the command started.
func (s *session) begin(ctx context.Context, command string) error {
	started := make(chan error, 1)
	s.link.start(func() {
		ok, err := s.ch.SendRequest("exec", true, ssh.Marshal(struct{ Command string }{command}))
		if err == nil && !ok {
			err = errors.New("its SSH server refused to run a command")
		}
		started <- err
	})
	select {
	case err := <-started:
		if err != nil {
			return s.failed(err)
		}
		return nil
	case <-s.link.down:
		return s.link.cause()
	case <-ctx.Done():
		return s.failed(context.Cause(ctx))
	}
}

// follow passes output on until the command has ended.
func (s *session) follow(ctx context.Context, e Exec, stdin <-chan error) error {
	stdout, stderr := s.stdout, s.stderr
	for stdout != nil || stderr != nil {
		var err error
		select {
		case c, ok := <-stdout:
			if !ok {
				stdout = nil
				continue
			}
			err = s.write(e.Stdout, c)
		case c, ok := <-stderr:
			if !ok {
				stderr = nil
				continue
			}
			err = s.write(e.Stderr, c)
		case err = <-stdin:
		case <-s.link.down:
			return s.link.cause()
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		if err != nil {
			return s.failed(err)
		}
	}
	return s.status(ctx, stdin)
}

// status waits for how the command ended.
func (s *session) status(ctx context.Context, stdin <-chan error) error {
	select {
	case status := <-s.exit:
		if down := s.link.cause(); down != nil {
			return down // perhaps not all output came
		}
		s.over = true
		select {
		case err := <-stdin: // what the command read was cut short
			return s.failed(err)
		default:
		}
		if status.Code == 0 {
			return nil
		}
		return status
	case err := <-stdin:
		return s.failed(err)
	case <-s.link.down:
		return s.link.cause()
	case <-ctx.Done():
		return s.failed(context.Cause(ctx))
	}
}

func (s *session) failed(err error) error {
	if down := s.link.cause(); down != nil {
		return down
	}
	return fmt.Errorf("run a command on %s: %w", s.via, err)
}

func (s *session) write(w io.Writer, c chunk) error {
	defer s.link.bufs.put(c)
	if w == nil {
		return nil
	}
	if _, err := w.Write(c.data); err != nil {
		return fmt.Errorf("pass its output on: %w", err)
	}
	return nil
}

// read hands over what r has. It reads at most one chunk ahead.
func (s *session) read(r io.Reader, chunks chan<- chunk) {
	defer close(chunks)
	size := 0
	for {
		c := s.link.bufs.get(size)
		n, err := r.Read(*c.buf)
		if n > 0 {
			size = sizeAfter(size, n)
			c.data = (*c.buf)[:n]
			select {
			case chunks <- c:
			case <-s.ended:
				return
			}
			continue
		}
		s.link.bufs.put(c)
		if err != nil {
			return
		}
	}
}

// feed sends stdin to the command. A read can block for longer than the link
// lives, so the link does not wait for this goroutine. Only a failed read is
// told: a command that reads no more says why by its status.
func (s *session) feed(stdin io.Reader) <-chan error {
	failed := make(chan error, 1)
	if stdin == nil {
		s.link.start(func() { s.ch.CloseWrite() })
		return failed
	}
	go func() {
		c := s.link.bufs.get(1)
		defer s.link.bufs.put(c)
		for !done(s.ended) {
			n, err := stdin.Read(*c.buf)
			if n > 0 {
				if _, err := s.ch.Write((*c.buf)[:n]); err != nil {
					return
				}
			}
			if err == io.EOF {
				s.ch.CloseWrite()
				return
			}
			if err != nil {
				failed <- fmt.Errorf("read its input: %w", err)
				return
			}
		}
	}()
	return failed
}

// requests waits for what the server tells of the command's end (RFC 4254 §6.10).
func (s *session) requests(reqs <-chan *ssh.Request) {
	status := &ExitError{Code: -1}
	for r := range reqs {
		var code struct{ Code uint32 }
		var signal struct {
			Name            string
			Core            bool
			Message, Locale string
		}
		switch {
		case r.Type == "exit-status" && ssh.Unmarshal(r.Payload, &code) == nil:
			status.Code = int(code.Code)
		case r.Type == "exit-signal" && ssh.Unmarshal(r.Payload, &signal) == nil:
			status.Code, status.Signal = -1, strings.TrimPrefix(printable(signal.Name), "SIG")
		}
		if r.WantReply {
			r.Reply(false, nil)
		}
	}
	s.exit <- status
}

// end closes the channel, and never waits for the network.
func (s *session) end() {
	close(s.ended)
	s.link.start(func() {
		if !s.over {
			s.ch.SendRequest("signal", false, ssh.Marshal(struct{ Name string }{"TERM"}))
		}
		s.ch.Close()
	})
}
