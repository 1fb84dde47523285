package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sallyport/sallyport/control"
	"github.com/sallyport/sallyport/models/runner"
	"github.com/spf13/cobra"
)

const (
	modelRun    = "model-run"
	modelInside = "model-inside"
	modelState  = "model-state"
	modelLog    = "model-log"

	// maxEnviron bounds an environment that is read, in bytes.
	maxEnviron = 1 << 20
)

func newModelRunCommand(p process) *cobra.Command {
	var o runner.Options
	var detach, detached bool
	c := &cobra.Command{
		Use:   modelRun + " --folder folder -- command",
		Short: "Be the parent of a model server: its lock, its socket, its end (started by launcher)",
		Args:  cobra.MinimumNArgs(1), Hidden: true,
		RunE: func(c *cobra.Command, args []string) error {
			if detach {
				return runnerError(detachRunner(c.Context(), p, o, args))
			}
			o.Argv, o.Env, o.Inside, o.Log = args, p.environ(), []string{modelInside}, newLogger(p.stderr)
			o.Stdout, o.Stderr, o.Read = os.Stdout, os.Stderr, neededFiles(args, o.Env)
			if !detached {
				o.Hide = append(o.Hide, hiddenFolders(p, o.Folder)...)
				return runnerError(runner.Run(c.Context(), o))
			}
			told := false
			o.Started = func() { told = true; runner.Detached(nil) }
			err := runner.Run(c.Context(), o)
			if !told {
				runner.Detached(err)
			}
			return runnerError(err)
		},
	}
	f := c.Flags()
	f.StringVar(&o.Folder, "folder", "", "the server's own `folder`: lock, state, sockets")
	f.StringVar(&o.By, "by", "", "who starts it, for others who use it")
	f.StringVar(&o.Launch, "launch", "", "what the caller calls this way to start it")
	f.DurationVar(&o.IdleStop, "idle-stop", 0, "end the server after so long without work; 0: never")
	f.DurationVar(&o.Grace, "grace", 0, "time between SIGTERM and SIGKILL; 0: 20 s")
	f.BoolVar(&o.NetNS, "netns", false, "run the server in a user and network namespace of its own, and keep its log")
	f.StringArrayVar(&o.Hide, "hide", nil, "with --netns: a `folder` that the server finds empty")
	f.BoolVar(&detach, "detach", false, "go on in a session of our own; the server's environment is read from stdin, as a JSON list")
	f.BoolVar(&detached, "detached", false, "be what --detach starts")
	return needsFolder(c)
}

// detachRunner starts this command again, to stay.
func detachRunner(ctx context.Context, p process, o runner.Options, argv []string) error {
	var more []string
	decoder := json.NewDecoder(io.LimitReader(p.stdin, maxEnviron))
	if err := decoder.Decode(&more); err != nil {
		return fmt.Errorf("read the server's environment: %w", err)
	}
	args := []string{modelRun, "--detached", "--folder", o.Folder, "--by", o.By, "--launch", o.Launch,
		"--idle-stop", o.IdleStop.String(), "--grace", o.Grace.String()}
	if o.NetNS {
		args = append(args, "--netns")
	}
	for _, folder := range append(o.Hide, hiddenFolders(p, o.Folder)...) {
		args = append(args, "--hide", folder)
	}
	args = append(append(args, "--"), argv...)
	return runner.Detach(ctx, o.Folder, args, runner.LoginEnv(p.environ(), more))
}

// hiddenFolders are those of the login that a program in namespaces finds empty:
// keys and connections that ssh shares, and our own, with the sockets and programs
// in them. folder is a model server's; empty: there is none.
func hiddenFolders(p process, folder string) []string {
	var hidden []string
	if base := filepath.Dir(filepath.Dir(folder)); folder != "" && filepath.Base(filepath.Dir(folder)) == "models" {
		for _, name := range []string{"bin", "models", "pull"} { // what the launcher makes in hosts[].folder
			hidden = append(hidden, filepath.Join(base, name))
		}
	}
	home := p.getenv("HOME")
	if home == "" {
		return hidden
	}
	for _, name := range []string{".ssh", ".gnupg", ".cache/sallyport", ".local/state/sallyport", ".config/sallyport", ".local/share/sallyport"} {
		hidden = append(hidden, filepath.Join(home, name))
	}
	paths := control.PathsFor(os.Getuid(), home, p.getenv)
	return append(hidden, paths.State, paths.Config, paths.Data, paths.Runtime)
}

// neededFiles are what a model server is told of on its command line and in its
// environment: weights may lie in a folder that is not shown otherwise. Of a
// snapshot the files lie beside it, in the repository's folder: huggingface_hub's
// guide "manage-cache".
func neededFiles(argv, env []string) []string {
	var told []string
	for _, arg := range argv {
		_, value, _ := strings.Cut(arg, "=")
		told = append(told, arg, value)
	}
	for _, v := range env {
		switch name, value, _ := strings.Cut(v, "="); name {
		case "HF_HUB_CACHE", "TIKTOKEN_ENCODINGS_BASE", "LD_LIBRARY_PATH":
			told = append(told, strings.Split(value, ":")...)
		}
	}
	var needed []string
	for _, path := range told {
		if !filepath.IsAbs(path) {
			continue
		}
		if repo, _, cut := strings.Cut(path, "/snapshots/"); cut {
			path = repo
		}
		switch path = filepath.Clean(path); path {
		case "/tmp", "/var/tmp", "/dev/shm", "/run": // it gets its own
			continue
		}
		// Never a socket: those are what it must not find.
		if info, err := os.Stat(path); err == nil && (info.IsDir() || info.Mode().IsRegular()) {
			needed = append(needed, path)
		}
	}
	return needed
}

func newModelInsideCommand() *cobra.Command {
	return &cobra.Command{
		Use:   modelInside + " stage",
		Short: "Be a model server's parent in its namespace (started by " + modelRun + ")",
		Args:  cobra.ExactArgs(1), Hidden: true,
		RunE: func(_ *cobra.Command, args []string) error {
			err := runner.Inside(args[0])
			if exit := new(runner.ExitError); errors.As(err, &exit) { // the runner tells
				return &exitError{code: exit.Code}
			}
			return err
		},
	}
}

func newModelStateCommand(p process) *cobra.Command {
	var folder string
	var stop bool
	grace := 30 * time.Second
	c := &cobra.Command{
		Use:   modelState,
		Short: "Say, as JSON, what became of a folder's model server (asked by launcher)",
		Args:  noArgs, Hidden: true,
		RunE: func(c *cobra.Command, _ []string) error {
			status, err := runner.Inspect(folder)
			if err == nil && stop {
				status, err = runner.Stop(c.Context(), folder, grace)
			}
			if err != nil {
				return err
			}
			return json.NewEncoder(p.stdout).Encode(status)
		},
	}
	c.Flags().StringVar(&folder, "folder", "", "the server's own `folder`")
	c.Flags().BoolVar(&stop, "stop", false, "end the server first")
	c.Flags().DurationVar(&grace, "stop-grace", grace, "kill it after so long")
	return needsFolder(c)
}

func newModelLogCommand(p process) *cobra.Command {
	var folder string
	var follow bool
	lines := -1
	c := &cobra.Command{
		Use:   modelLog,
		Short: "Write a folder's model server's log, raw, until stdin ends (asked by launcher)",
		Args:  noArgs, Hidden: true,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, cancel := context.WithCancel(c.Context())
			defer cancel()
			go func() { // whoever asked may go without a word
				_, _ = io.Copy(io.Discard, p.stdin)
				cancel()
			}()
			return runner.WriteLog(ctx, folder, p.stdout, lines, follow)
		},
	}
	c.Flags().StringVar(&folder, "folder", "", "the server's own `folder`")
	c.Flags().BoolVar(&follow, "follow", false, "go on until the server has ended")
	c.Flags().IntVar(&lines, "lines", lines, "begin so many lines before the end; -1: with the first")
	return needsFolder(c)
}

// needsFolder refuses the command without --folder.
func needsFolder(c *cobra.Command) *cobra.Command {
	c.PreRunE = func(c *cobra.Command, _ []string) error {
		if !c.Flags().Changed("folder") {
			return usage(fmt.Errorf("--folder is missing; hint: %s --help", c.CommandPath()))
		}
		return nil
	}
	return c
}

// runnerError takes over the exit code of a runner.
func runnerError(err error) error {
	if exit := new(runner.ExitError); errors.As(err, &exit) {
		return &exitError{exit.Code, err}
	}
	return err
}
