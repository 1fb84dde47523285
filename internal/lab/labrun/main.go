// Command labrun builds a lab and runs a command of this machine beside it, which
// finds the laptop's engine in SALLYPORT_TEST_DOCKER and, in TMPDIR, a folder that
// the engine sees at the same path. Without a command it opens a shell on the
// laptop, as its user. The lab ends with the command.
//
//	labrun [-engine 20.10|28] [-agent] [-gpu docker-28|podman] [command…]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/lab"
)

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), unix.SIGTERM, os.Interrupt)
	defer cancel()
	os.Exit(run(ctx, os.Args[1:]))
}

// run returns the command's exit code, or 125 if it could not be run.
func run(ctx context.Context, args []string) int {
	flags := flag.NewFlagSet("labrun", flag.ContinueOnError)
	engine := flags.String("engine", string(lab.Engine20), "the laptop's Docker engine")
	agent := flags.Bool("agent", false, "load the agent image")
	gpu := flags.String("gpu", "", "the GPU host's engine: docker-28 or podman; empty: none")
	bin := flags.String("bin", "", "a folder with gateway and launcher")
	if flags.Parse(args) != nil {
		return 125
	}
	code, err := inLab(ctx, lab.Options{Engine: lab.Engine(*engine), Agent: *agent, Bin: *bin,
		GPUEngine: lab.GPUEngine(*gpu), GPUDevices: *gpu != ""}, flags.Args())
	if err != nil {
		fmt.Fprintln(os.Stderr, "labrun:", err)
		return 125
	}
	return code
}

func inLab(ctx context.Context, o lab.Options, command []string) (code int, err error) {
	l, err := lab.Start(ctx, o)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	if len(command) == 0 {
		return shell(ctx, l)
	}
	tmp := filepath.Join(l.Dir(), "tmp")
	if err := errors.Join(os.Mkdir(tmp, 0o700), os.Chmod(tmp, 0o1777)); err != nil {
		return 0, err
	}
	// Others than root cannot follow the engine's own path into its host.
	socket := filepath.Join(l.Dir(), "docker.sock")
	stop, err := relay(socket, strings.TrimPrefix(l.Laptop.Engine(), "unix://"))
	if err != nil {
		return 0, err
	}
	defer stop()
	c := exec.CommandContext(ctx, command[0], command[1:]...)
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	c.Env = append(os.Environ(), "SALLYPORT_TEST_DOCKER=unix://"+socket, "TMPDIR="+tmp)
	return exitCode(c.Run())
}

// shell stays in this terminal's session, so that its keys work.
func shell(ctx context.Context, l *lab.Lab) (int, error) {
	c := l.Laptop.Command(ctx, "bash", "-i")
	c.SysProcAttr.Setsid = false
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	return exitCode(c.Run())
}

func exitCode(err error) (int, error) {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), nil
	}
	return 0, err
}
