// Package vllm is a stand-in for vLLM's `vllm serve`, for tests: it takes the
// same options (flags.txt, extracted from vLLM's source) and refuses others,
// prints the same log lines in the same order, binds its socket before it loads,
// and has the same endpoints, the dangerous ones included, which only count. What
// it answers is package models/demo's. It says in its first line that it is a
// stand-in, and opens no connection unless VLLM_STANDIN_PROBE tells it to try.
package vllm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sallyport/sallyport/models/demo"
)

const (
	headTimeout   = time.Minute
	shutdownGrace = 2 * time.Second
	probeTimeout  = 2 * time.Second
)

// Command is one run of the stand-in.
type Command struct {
	Args           []string // without the program's name
	Getenv         func(string) string
	Stdout, Stderr io.Writer
	Dial           func(ctx context.Context, network, address string) (net.Conn, error) // for VLLM_STANDIN_PROBE; nil: net's
}

// process is a running stand-in.
type process struct {
	options  options
	settings settings
	journal  *journal
	started  time.Time
	demo     *demo.Server
	die      context.CancelFunc // ends it as a dead engine does

	mu   sync.Mutex
	hits map[string]int // requests to dangerous endpoints, by method and path
}

// Run is vLLM's main: it returns the exit code. The context's end is SIGTERM.
func Run(ctx context.Context, c Command) int {
	flags, err := readFlags()
	if err != nil {
		fmt.Fprintln(c.Stderr, err)
		return 70
	}
	set, err := readSettings(c.Getenv)
	if err != nil {
		fmt.Fprintln(c.Stderr, err)
		return 70
	}
	switch {
	case slices.Equal(c.Args, []string{"--version"}) || slices.Equal(c.Args, []string{"-v"}):
		fmt.Fprintln(c.Stdout, set.version)
		return 0
	case len(c.Args) == 0 || c.Args[0] != "serve":
		fmt.Fprintln(c.Stderr, (&usageError{"vllm", "invalid choice: the stand-in knows serve only"}).Error())
		return 2
	}
	o, err := flags.parse(c.Args[1:])
	if err != nil {
		fmt.Fprintln(c.Stderr, err)
		return 2
	}
	p := &process{options: o, settings: set, started: time.Now(), hits: map[string]int{},
		journal: &journal{stdout: c.Stdout, stderr: c.Stderr, now: time.Now, pid: os.Getpid()}}
	if err := p.serve(ctx, c, flags); err != nil && !errors.Is(err, errStopped) {
		p.tell(err)
		return 1
	}
	return 0
}

// served is the name that the server answers to.
func (p *process) served() string {
	return p.options.value("--served-model-name", p.options.value("--model", p.options.model))
}

func (p *process) maxContext() int { return p.options.number("--max-model-len", 131072) }

// serve starts in vLLM's order: banner, options, socket, engine, routes.
func (p *process) serve(ctx context.Context, c Command, flags known) error {
	if p.options.model == "" {
		p.options.model = p.options.value("--model", "Qwen/Qwen3-0.6B")
	}
	j := p.journal
	j.said("a stand-in for vLLM, for tests: no language model")
	j.api("__init__.py:216", "Automatically detected platform rocm.")
	j.api("utils.py:299", "vLLM API server version %s (stand-in), model %s", p.settings.version, p.options.model)
	j.api("utils.py:233", "non-default args: %s", p.nonDefault())
	p.look(ctx, c)
	if err := p.consistent(flags); err != nil {
		return err
	}
	socket, err := p.bind()
	if err != nil {
		return err
	}
	defer socket.close()
	if p.settings.listenEarly {
		if err := socket.listen(); err != nil {
			return err
		}
	}
	if err := p.findModel(); err != nil {
		return err
	}
	if err := p.load(ctx); err != nil {
		return err
	}
	return p.answerUntil(ctx, socket)
}

// consistent checks what vLLM checks after its parser.
func (p *process) consistent(flags known) error {
	parser := p.options.value("--tool-call-parser", "")
	reasoning := p.options.value("--reasoning-parser", "")
	switch {
	case p.options.on("--enable-auto-tool-choice") && parser == "":
		return failure{"APIServer", "TypeError: Error: --enable-auto-tool-choice requires --tool-call-parser"}
	case parser != "" && !slices.Contains(flags.toolParsers, parser):
		return failure{"APIServer", fmt.Sprintf("KeyError: 'invalid tool call parser: %s (chose from { %s })'", parser, strings.Join(flags.toolParsers, ","))}
	case reasoning != "" && !slices.Contains(flags.reasoningParsers, reasoning):
		return failure{"APIServer", fmt.Sprintf("KeyError: 'invalid reasoning parser: %s (chose from { %s })'", reasoning, strings.Join(flags.reasoningParsers, ","))}
	}
	return nil
}

// nonDefault is the Python dictionary that vLLM prints.
func (p *process) nonDefault() string {
	parts := []string{"'model_tag': '" + p.options.model + "'"}
	for _, name := range p.options.order {
		key := strings.ReplaceAll(strings.TrimPrefix(name, "--"), "-", "_")
		value := "'" + strings.Join(p.options.set[name], "', '") + "'"
		if strings.Contains(name, "key") || strings.Contains(name, "token") {
			value = "'***'"
		}
		parts = append(parts, "'"+key+"': "+value)
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

// look tells what of the network can be seen, and with VLLM_STANDIN_PROBE
// whether an attempt to leave succeeds.
func (p *process) look(ctx context.Context, c Command) {
	if interfaces, err := net.Interfaces(); err == nil {
		names := make([]string, 0, len(interfaces))
		for _, i := range interfaces {
			names = append(names, i.Name)
		}
		p.journal.said("interfaces: %s", strings.Join(names, " "))
	}
	if p.settings.probe == "" {
		return
	}
	dial := c.Dial
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	result := "connected"
	conn, err := dial(ctx, "tcp", p.settings.probe)
	if err == nil {
		conn.Close()
	} else {
		result = err.Error()
		var errno syscall.Errno
		if errors.As(err, &errno) {
			result = errno.Error()
		}
	}
	p.journal.said("connect %s: %s", p.settings.probe, result)
}

// answerUntil serves until ctx ends or the engine dies.
func (p *process) answerUntil(ctx context.Context, socket *socket) error {
	p.demo = &demo.Server{
		Model: p.served(), MaxContext: p.maxContext(), Script: demo.Script{Turns: p.settings.turns}, Delay: p.settings.pace, Prefill: p.settings.prefill,
		NoSystem: refusesSystem(p.settings.version), Log: slog.New(slog.DiscardHandler),
	}
	demo, err := p.demo.Handler()
	if err != nil {
		return err
	}
	routes := p.routes(demo)
	engine, die := context.WithCancel(context.WithoutCancel(ctx))
	defer die()
	p.die = die
	srv := &http.Server{Handler: p.handler(routes), ReadHeaderTimeout: headTimeout, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)}
	if err := socket.listen(); err != nil {
		return err
	}
	p.announce(socket, routes)
	done := make(chan error, 1)
	go func() { done <- srv.Serve(socket.listener) }()
	select {
	case err = <-done:
		return fmt.Errorf("serve: %w", err)
	case <-engine.Done():
		err = failure{"APIServer", "RuntimeError: the engine is dead"}
	case <-ctx.Done():
		p.journal.raw("(APIServer pid=%d) INFO:     Shutting down\n", p.journal.pid)
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
	defer cancel()
	if err != nil || srv.Shutdown(grace) != nil {
		_ = srv.Close() // clients that stay on, or a dead engine: nobody waits
	}
	<-done
	return err
}

// refusesSystem says whether a version refuses the role "system" in messages:
// those before 0.23 do (vllm#44283).
func refusesSystem(version string) bool {
	var minor int
	n, err := fmt.Sscanf(version, "0.%d", &minor)
	return err == nil && n == 1 && minor < 23
}

// announce prints what vLLM and uvicorn print once they serve.
func (p *process) announce(socket *socket, routes map[string]route) {
	p.journal.api("api_server.py:602", "Starting vLLM server on %s", socket)
	p.journal.api("launcher.py:37", "Available routes are:")
	paths := make([]string, 0, len(routes))
	for path := range routes {
		paths = append(paths, path)
	}
	slices.Sort(paths)
	for _, path := range paths {
		p.journal.api("launcher.py:46", "Route: %s, Methods: %s", path, strings.Join(routes[path].methods, ", "))
	}
	for _, line := range []string{fmt.Sprintf("Started server process [%d]", p.journal.pid), "Waiting for application startup.", "Application startup complete."} {
		p.journal.raw("(APIServer pid=%d) INFO:     %s\n", p.journal.pid, line)
	}
}
