package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/sallyport/sallyport/config"
	"github.com/sallyport/sallyport/containers"
	"github.com/spf13/cobra"
)

// Exit codes, beside those of the agent, which are passed on.
const (
	exitFailed      = 1
	exitUsage       = 2   // it could not be tried: a wrong flag, a bad configuration, an engine that is not supported
	exitInterrupted = 130 // ended by Ctrl-C before the agent ran
)

// process is what the program has of its surroundings.
type process struct {
	self    string // this program's file: gateway lies beside it
	args    []string
	environ []string
	stdin   *os.File
	stdout  *os.File
	stderr  io.Writer
}

func (p process) lookupenv(name string) (string, bool) {
	for i := len(p.environ) - 1; i >= 0; i-- {
		if value, ok := strings.CutPrefix(p.environ[i], name+"="); ok {
			return value, true
		}
	}
	return "", false
}

func (p process) getenv(name string) string {
	value, _ := p.lookupenv(name)
	return value
}

// exitError carries an exit code. A nil err: it was said already.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

var errInterrupted = &exitError{exitInterrupted, errors.New("interrupted")}

func usage(err error) error { return &exitError{exitUsage, err} }

func run(ctx context.Context, p process) int {
	root := newRoot(p)
	root.SetArgs(p.args)
	root.SetOut(p.stdout)
	root.SetErr(p.stderr)
	err := root.ExecuteContext(ctx)
	code := exitCode(ctx, err)
	var exit *exitError
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = errInterrupted
	}
	if err != nil && (!errors.As(err, &exit) || exit.err != nil) {
		fmt.Fprintf(p.stderr, "launcher: %s\n", printable(err.Error()))
	}
	return code
}

func exitCode(ctx context.Context, err error) int {
	var exit *exitError
	var unsupported *containers.UnsupportedError
	var badConfig *config.Error
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.code
	case errors.As(err, &unsupported), errors.As(err, &badConfig):
		return exitUsage
	case ctx.Err() != nil:
		return exitInterrupted
	}
	return exitFailed
}

// options are the flags of all commands.
type options struct {
	process
	configFile  string
	unsafeMount bool
	quiet       bool
	dryRun      bool
	summary     summaryFormat // as it was asked for; summaryFormat tells what applies
}

func newRoot(p process) *cobra.Command {
	o := &options{process: p}
	root := &cobra.Command{
		Use:   "launcher",
		Short: "Run a coding agent that can reach your own model and nothing else",
		Long: `launcher runs a coding agent in the current folder, in a container whose one way
out is the model that you host. Whatever else it tries to reach is refused, explained
and recorded: see "gateway audit". "launcher init" writes a configuration, "launcher
doctor" tries it, "pull" downloads a model's weights, and "serve" starts its server.`,
		Example: `  launcher claude demo               no GPU yet: a scripted stand-in for a model
  launcher claude gpt-oss            Claude Code on your own gpt-oss
  launcher init                      a configuration for your GPU machine, by a few questions
  launcher doctor                    whether all is as it must be, and what to do if not
  launcher models                    what there is, and where its weights are
  launcher pull gpt-oss              download weights, recorded, the only way out that a model gets
  launcher serve gpt-oss             start its server without a network, and show it loading
  launcher claude gpt-oss -- -p "fix the failing test"
  launcher shell gpt-oss             the same sandbox with a shell, for the doubtful`,
		Version:       version(),
		Args:          noCommand,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usage(fmt.Errorf("%w; hint: %s --help (the agent's own arguments go behind --)", err, c.CommandPath()))
	})
	flags := root.PersistentFlags()
	flags.StringVar(&o.configFile, "config", "", "configuration `file` (default: config.yaml in the user's config folder)")
	flags.BoolVar(&o.unsafeMount, "unsafe-mount", false, "mount the current folder even where that is refused; it is recorded")
	flags.BoolVarP(&o.quiet, "quiet", "q", false, "no progress and no summary")
	root.AddCommand(newClaudeCommand(o), newShellCommand(o), newRunCommand(o), newModelsCommand(o), newPullCommand(o), newServeCommand(o),
		newLogsCommand(o), newStatusCommand(o), newStopCommand(o), newBuildCommand(o), newInitCommand(o), newDoctorCommand(o), newVerifyCommand(o))
	return root
}

// dryFlag adds --dry-run to a command that obeys it.
func (o *options) dryFlag(c *cobra.Command) *cobra.Command {
	c.Flags().BoolVar(&o.dryRun, "dry-run", false, "print what would be done, and do nothing")
	return c
}

// noArgs is cobra.NoArgs with our exit code and a hint.
func noArgs(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usage(fmt.Errorf("%s takes no argument, but got %q; hint: %s --help", c.CommandPath(), args[0], c.CommandPath()))
	}
	return nil
}

// noCommand refuses what names no command.
func noCommand(root *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := root.CommandPath() + " --help"
	root.SuggestionsMinimumDistance = 2 // letters
	if near := root.SuggestionsFor(args[0]); len(near) > 0 {
		hint = "did you mean " + strings.Join(near, " or ") + "?"
	}
	return usage(fmt.Errorf("there is no command %q; hint: %s", args[0], hint))
}

// needArgs is cobra's argument check with our exit code and a hint.
func needArgs(least int, what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		named := len(args)
		if dash := c.ArgsLenAtDash(); dash >= 0 {
			named = dash
		}
		if named != least {
			return usage(fmt.Errorf("%s takes %s; hint: %s --help (the agent's own arguments go behind --)", c.CommandPath(), what, c.CommandPath()))
		}
		return nil
	}
}

func newClaudeCommand(o *options) *cobra.Command {
	return o.summaryFlag(o.dryFlag(&cobra.Command{
		Use:   "claude MODEL [-- claude's own arguments]",
		Short: "Run Claude Code in the current folder, on your model",
		Long: `Run Claude Code in the current folder, on your model. MODEL is a name from your
configuration, or "demo"; its server is started unless it runs, and outlives this
session (launcher stop MODEL ends it). What stands behind -- goes to Claude Code as it is; its exit
code is the launcher's. Its home (sessions, settings) is kept per project.

At its end stderr says what was refused, and the head of the record, which gateway
audit verify --head takes. With --summary json that is one line, the last of those
that begin with {"summary": .`,
		Example: `  launcher claude gpt-oss
  launcher claude gpt-oss -- --continue
  launcher claude demo -- -p "look around"`,
		Args:              needArgs(1, "one MODEL"),
		ValidArgsFunction: o.completeModels,
		RunE: func(c *cobra.Command, args []string) error {
			return o.runSession(c.Context(), request{agent: "claude", model: args[0], args: args[1:]})
		},
	}))
}

func newShellCommand(o *options) *cobra.Command {
	return o.summaryFlag(o.dryFlag(&cobra.Command{
		Use:   "shell MODEL [-- command]",
		Short: "Open a shell in the same sandbox, to look around",
		Long: `Open a shell in the sandbox that Claude Code would get, with busybox and the probe
(/run/sallyport/gateway probe). What stands behind -- goes to the shell.`,
		Example: `  launcher shell demo
  launcher shell demo -- -c 'curl -m 3 https://example.org'`,
		Args:              needArgs(1, "one MODEL"),
		ValidArgsFunction: o.completeModels,
		RunE: func(c *cobra.Command, args []string) error {
			return o.runSession(c.Context(), request{agent: "shell", model: args[0], args: args[1:]})
		},
	}))
}

func newRunCommand(o *options) *cobra.Command {
	return o.summaryFlag(o.dryFlag(&cobra.Command{
		Use:   "run IMAGE MODEL [-- command]",
		Short: "Run any image in the same sandbox",
		Long: `Run any image of this machine in the same sandbox. Its command is what stands behind
--; its exit code is the launcher's. It runs as your user, with a read-only root.`,
		Example:           "  launcher run debian:12-slim demo -- bash",
		Args:              needArgs(2, "an IMAGE and a MODEL"),
		ValidArgsFunction: o.completeModels,
		RunE: func(c *cobra.Command, args []string) error {
			return o.runSession(c.Context(), request{agent: "run", image: args[0], model: args[1], args: args[2:]})
		},
	}))
}
