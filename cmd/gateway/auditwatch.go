package main

import (
	"context"
	"errors"
	"fmt"
	"html"
	"os"
	"os/exec"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/watch"
	"github.com/sallyport/sallyport/control"
	"github.com/sallyport/sallyport/terminal"
	"github.com/spf13/cobra"
)

// watchBegin is how many events watch begins with.
const watchBegin = 500

func newAuditWatchCommand(p process) *cobra.Command {
	var filter filterFlags
	var output outputFlags
	c := &cobra.Command{
		Use:   "watch",
		Short: "Watch events as they come; filter, pause, look at one",
		Long: `Watch events as they come, after the newest 500. It needs a terminal; with --json
it prints events as they come, one a line, until it is interrupted.

Keys: / filter as you type, space pause, enter all about one event (esc: back),
arrows or j and k move, end the newest, q quit.
` + exitCodes,
		Example: `  gateway audit watch
  gateway audit watch --denied --project shop
  gateway audit watch --json | jq -r .reason`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			f, err := filter.read(time.Now(), output.loc())
			if err != nil {
				return err
			}
			return p.auditWatch(c.Context(), f, output)
		},
	}
	filter.add(p, c)
	output.add(c, false)
	return c
}

func (p process) auditWatch(ctx context.Context, filter audit.Filter, output outputFlags) error {
	out, _ := p.stdout.(*os.File)
	isTerminal := out != nil && terminal.IsTerminal(out) && p.stdin != nil && terminal.IsTerminal(p.stdin) && p.getenv("TERM") != "dumb"
	if !output.json && !isTerminal {
		return usage(errors.New("audit watch needs a terminal; hint: gateway audit watch --json prints events as they come"))
	}
	r, err := p.record()
	if err != nil || r == nil {
		return err
	}
	defer r.Close() // it was only read
	if output.json {
		err := follow(ctx, r, filter, 0, func(e audit.Event) error {
			line, err := audit.Encode(e)
			if err != nil {
				return err
			}
			_, err = p.stdout.Write(line)
			return err
		})
		if ctx.Err() != nil {
			return nil // interrupted, as it is meant to be
		}
		return err
	}
	return watch.Run(ctx, watch.Options{In: p.stdin, Out: out, Environ: p.environ(), Loc: output.loc(), Title: "gateway audit watch",
		Follow: func(ctx context.Context, each func(audit.Event) error) error {
			return follow(ctx, r, filter, watchBegin, each)
		}})
}

// follow calls each for the newest events that filter chooses, as many as begin
// says, and for all that come then. Some may come twice.
func follow(ctx context.Context, r *audit.Reader, filter audit.Filter, begin int, each func(audit.Event) error) error {
	last := "" // of all events, before any was read: nothing falls between the two
	var damaged *audit.DamagedError
	err := r.Events(ctx, audit.Filter{}, audit.Page{Newest: true, Limit: 1}, func(e audit.Event) error {
		last = e.ID
		return nil
	})
	if err == nil && begin > 0 {
		err = eachEvent(ctx, r, filter, begin, each)
	}
	if err != nil && !errors.As(err, &damaged) {
		return err
	}
	return r.Follow(ctx, filter, last, each)
}

// pageKept is how long the browser may take to read the file that leads it to the
// page.
const pageKept = 20 * time.Second

// openPage opens the audit page in the browser, or prints its address. The address
// has a token, and command lines can be read by everybody here: the browser gets
// it from a file in folder, which is ours alone and there until kept returns.
func (p process) openPage(ctx context.Context, client *control.Client, folder string, kept func(context.Context)) error {
	page, err := client.Page(ctx)
	if errors.Is(err, control.ErrNotRunning) {
		return fmt.Errorf("%w; hint: launcher starts it with the first agent, gateway run in a terminal", err)
	}
	if err != nil {
		return err
	}
	opener, err := exec.LookPath("xdg-open")
	if err != nil || p.getenv("DISPLAY") == "" && p.getenv("WAYLAND_DISPLAY") == "" {
		_, err := fmt.Fprintln(p.stdout, page.URL)
		return err
	}
	name, err := pageFile(folder, page.URL)
	if err != nil {
		return err
	}
	defer os.Remove(name) // its token works once, and not for long
	open := exec.CommandContext(ctx, opener, name)
	open.Env, open.Stderr = p.environ(), p.stderr
	if err := open.Run(); err != nil {
		fmt.Fprintf(p.stderr, "gateway: the browser could not be opened: %v; hint: open this address, which works once\n", err)
		_, err := fmt.Fprintln(p.stdout, page.URL)
		return err
	}
	// A browser in a sandbox of its own, as a snap, may not read the file.
	_, err = fmt.Fprintf(p.stderr, "the audit page was opened in your browser; if it does not show, open this address, which works once: %s\n", page.URL)
	kept(ctx)
	return err
}

// pageFile makes a file that leads a browser to url, and that only we can read.
func pageFile(folder, url string) (string, error) {
	f, err := os.CreateTemp(folder, "page-*.html") // mode 0600
	if err != nil {
		return "", fmt.Errorf("make a file for the browser: %w", err)
	}
	_, err = fmt.Fprintf(f, "<!doctype html>\n<meta charset=\"utf-8\">\n<meta name=\"referrer\" content=\"no-referrer\">\n"+
		"<meta http-equiv=\"refresh\" content=\"0;url=%s\">\n<title>Sallyport</title>\n", html.EscapeString(url))
	if err = errors.Join(err, f.Close()); err != nil {
		os.Remove(f.Name())
		return "", fmt.Errorf("make a file for the browser: %w", err)
	}
	return f.Name(), nil
}

// waitKept waits for pageKept, or until ctx ends.
func waitKept(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, pageKept)
	defer cancel()
	<-ctx.Done()
}
