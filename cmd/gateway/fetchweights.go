package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"

	"github.com/sallyport/sallyport/models/hub"
	"github.com/spf13/cobra"
)

const (
	fetchWeights = "fetch-weights"

	maxJob    = 8 << 20 // bytes of a job; most of it is certificates
	relayPort = "127.0.0.1:3128"
	// exitBusy says that another pull of the same repository runs: EX_TEMPFAIL of
	// sysexits.h, as a model server's runner does.
	exitBusy = 75
)

// fetchOptions are the flags of fetch-weights.
type fetchOptions struct {
	proxy, listen, inside string
	direct, netns, closed bool
}

func newFetchWeightsCommand(p process) *cobra.Command {
	var o fetchOptions
	c := &cobra.Command{
		Use:   fetchWeights,
		Short: "Download a model's weights, as the token and the job on stdin say (started by launcher)",
		Args:  noArgs, Hidden: true,
		RunE: func(c *cobra.Command, _ []string) error {
			switch {
			case o.direct == (o.proxy != ""):
				return usage(errors.New("either --proxy or --direct"))
			case o.netns && o.direct:
				return usage(errors.New("--netns leaves no network for --direct"))
			case o.netns && o.inside == "":
				return insideNetns(c.Context(), p, o.proxy)
			case o.netns:
				if err := closeNetns(p, o); err != nil {
					return err
				}
			}
			return fetch(c.Context(), p, o)
		},
	}
	f := c.Flags()
	f.StringVar(&o.proxy, "proxy", "", "unix `socket` of a forward proxy, the only way out")
	f.BoolVar(&o.direct, "direct", false, "use the network that there is: nothing is recorded")
	f.BoolVar(&o.netns, "netns", false, "make namespaces first, from which no way leads but --proxy, and where the weights alone can be written to")
	f.StringVar(&o.inside, "inside", "", "be what --netns starts, with these `files`")
	f.BoolVar(&o.closed, "closed", false, "be what --inside becomes")
	f.StringVar(&o.listen, "listen", relayPort, "where the downloader finds the way to --proxy")
	return c
}

// fetch does the job. It ends when stdin does, so that a launcher that is gone
// leaves nothing behind that downloads.
func fetch(ctx context.Context, p process, o fetchOptions) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	in := bufio.NewReader(p.stdin)
	token, job, err := readRequest(in)
	if err != nil {
		return usage(err)
	}
	go func() {
		_, _ = io.Copy(io.Discard, in)
		cancel()
	}()
	options := hub.Options{Token: string(token), Proxy: http.ProxyFromEnvironment}
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	if !o.direct {
		l, err := net.Listen("tcp", o.listen)
		if err != nil {
			return fmt.Errorf("listen for the downloader: %w", err)
		}
		options.Proxy = http.ProxyURL(&url.URL{Scheme: "http", Host: l.Addr().String()})
		running.Go(func() { // its end shows as a connection that fails
			_ = hub.Relay(ctx, l, func(ctx context.Context) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "unix", o.proxy)
			})
		})
	}
	out := &lineWriter{w: p.stdout, failed: cancel}
	options.Report = func(progress hub.Progress) { out.write(hub.Line{Progress: &progress}) }
	result, err := hub.Fetch(ctx, job, options)
	result = hub.ResultOf(result, err)
	out.write(hub.Line{Result: &result})
	switch result.Kind {
	case "":
		return nil
	case hub.KindRunning:
		return &exitError{code: exitBusy}
	}
	return &exitError{code: exitFailed}
}

// readRequest reads the token, empty for none, and the job.
func readRequest(in *bufio.Reader) (token []byte, job hub.Job, err error) {
	token, err = readLine(in, hub.MaxToken)
	if err != nil {
		return nil, job, fmt.Errorf("read the token, or the empty line for none: %w", err)
	}
	line, err := readLine(in, maxJob)
	if err != nil {
		return nil, job, fmt.Errorf("read the job: %w", err)
	}
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(&job); err != nil {
		return nil, job, fmt.Errorf("read the job: %w", err)
	}
	return token, job, nil
}

// readLine reads a line of at most limit bytes, without its end. An error never
// holds any of it.
func readLine(in *bufio.Reader, limit int) ([]byte, error) {
	var line []byte
	for {
		piece, err := in.ReadSlice('\n')
		line = append(line, piece...)
		switch {
		case err == nil && len(line) <= limit+1:
			return line[:len(line)-1], nil
		case err == nil || len(line) > limit:
			return nil, fmt.Errorf("it has more than %d bytes", limit)
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		}
	}
}

// lineWriter writes JSON lines; when nobody reads them any more it ends the work.
type lineWriter struct {
	w      io.Writer
	failed func()
	mu     sync.Mutex
}

func (l *lineWriter) write(line hub.Line) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := json.NewEncoder(l.w).Encode(line); err != nil {
		l.failed()
	}
}
