package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/config"
	"github.com/sallyport/sallyport/terminal"
	"github.com/sallyport/sallyport/verify"
)

// screen is the user's end of the session: files, or a terminal in raw mode.
type screen struct {
	terminal *terminal.Terminal // nil: plain files
	out, err io.Writer
	undo     func() []byte // what puts the terminal's modes back; nil: nothing
	restore  func()
}

func (s *session) openScreen() (*screen, error) {
	sc := &screen{out: s.options.stdout, err: s.options.stderr, restore: func() {}}
	if terminal.IsTerminal(s.options.stdout) {
		sc.out = s.filtered(s.options.stdout)
		if filter, ok := sc.out.(*terminal.Filter); ok {
			sc.undo = filter.Undo
		}
	}
	if f, ok := s.options.stderr.(*os.File); ok && terminal.IsTerminal(f) {
		sc.err = s.filtered(f)
	}
	if !s.tty() {
		return sc, nil
	}
	var err error
	sc.terminal, err = terminal.Open(s.options.stdin, s.options.stdout)
	return sc, err
}

// filtered is a terminal as the agent gets it.
func (s *session) filtered(w io.Writer) io.Writer {
	if s.config.Agent.Terminal == config.TerminalRaw {
		return w
	}
	return terminal.NewFilter(w)
}

func (sc *screen) raw() error {
	if sc.terminal == nil {
		return nil
	}
	restore, err := sc.terminal.Raw()
	if err != nil {
		return err
	}
	sc.restore = restore
	return nil
}

// close puts the terminal back as it was. It may be called more than once.
func (sc *screen) close(stdout *os.File) {
	if sc.undo != nil {
		_, _ = stdout.Write(sc.undo()) // a terminal that is gone needs nothing
		sc.undo = nil
	}
	sc.restore()
}

// proofReader takes the proof off the beginning of a stream.
type proofReader struct {
	pipe    *io.PipeWriter
	results chan proofResult
	out     io.Writer
}

type proofResult struct {
	results []verify.Result
	err     error
}

// newProofReader returns a writer whose first line is the proof, sent to results;
// what follows goes to out.
func newProofReader(out io.Writer) (w *proofReader, done <-chan error) {
	r, pw := io.Pipe()
	p := &proofReader{pipe: pw, results: make(chan proofResult, 1), out: out}
	ended := make(chan error, 1)
	go func() {
		in := bufio.NewReader(r)
		results, err := verify.ReadProof(in)
		p.results <- proofResult{results, err}
		if err == nil {
			_, err = io.Copy(out, in)
		}
		r.CloseWithError(err)
		ended <- err
	}()
	return p, ended
}

// Write implements io.Writer.
func (p *proofReader) Write(b []byte) (int, error) { return p.pipe.Write(b) }

// end says that the stream has ended. It may be called more than once.
func (p *proofReader) end() { p.pipe.Close() }

// checkProof accepts a proof: each check passed, and each attempt of the proof
// was recorded.
func (s *session) checkProof(ctx context.Context, p proofResult) error {
	if p.err != nil {
		return p.err
	}
	if !verify.Passed(p.results) {
		var failed []string
		for _, r := range p.results {
			if !r.OK {
				failed = append(failed, fmt.Sprintf("  %s: %s", r.Name, audit.Printable(r.Detail)))
			}
		}
		return fmt.Errorf("the sandbox is not closed, so the agent was not started:\n%s\nhint: gateway status; please report this", strings.Join(failed, "\n"))
	}
	return s.awaitRecord(ctx)
}

// awaitRecord waits until the proof's attempts are in the record: one at least of
// each way to be refused. Those that the wall refused come a moment later: they
// are waited for, lest they be recorded as the agent's.
func (s *session) awaitRecord(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	record, err := audit.OpenReader(s.caller.paths.Audit())
	if err != nil {
		return fmt.Errorf("read the record: %w", err)
	}
	defer record.Close()
	for {
		missing, err := proofMissing(ctx, record, s.id)
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("read the record: %w", err)
		}
		if err == nil && len(missing) == 0 {
			return nil
		}
		select {
		case <-time.After(10 * time.Millisecond): // the record is a file: it is looked at again
		case <-ctx.Done():
			return fmt.Errorf("the proof's attempts were refused but not recorded (%s), so the agent was not started; hint: gateway status names the log", strings.Join(missing, ", "))
		}
	}
}

// proofMissing names the layers of which the record has no refused attempt of a
// sandbox's proof yet.
func proofMissing(ctx context.Context, record *audit.Reader, sandbox string) ([]string, error) {
	seen := map[audit.Layer]bool{}
	filter := audit.Filter{Sandbox: sandbox, Denied: true, Agents: []string{proofAgent}}
	err := record.Events(ctx, filter, audit.Page{}, func(e audit.Event) error {
		// The kernel may have sent packets of its own, but none of UDP.
		seen[e.Layer] = seen[e.Layer] || e.Layer != audit.LayerPacket || e.Proto == "udp"
		return nil
	})
	if damaged := new(audit.DamagedError); err != nil && !errors.As(err, &damaged) {
		return nil, err
	}
	var missing []string
	for _, layer := range []audit.Layer{audit.LayerIntercept, audit.LayerDNS, audit.LayerPacket, audit.LayerProxy} {
		if !seen[layer] {
			missing = append(missing, string(layer))
		}
	}
	return missing, nil
}
