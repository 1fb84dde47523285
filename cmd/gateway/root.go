package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"

	"github.com/sallyport/sallyport/control"
	"github.com/spf13/cobra"
)

// Exit codes, beside 0.
const (
	exitFailed = 1 // what was asked for did not succeed
	exitUsage  = 2 // it could not be tried: a wrong flag, a bad configuration
	// exitRunning: gateway run found another one. launcher then waits for that.
	exitRunning = 3
)

// process is what the program has of its surroundings.
type process struct {
	args           []string
	environ        func() []string
	lookupenv      func(string) (string, bool)
	stdin          *os.File
	stdout, stderr io.Writer
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

func usage(err error) error { return &exitError{exitUsage, err} }

func run(ctx context.Context, p process) int {
	root := newRoot(p)
	root.SetArgs(p.args)
	root.SetOut(p.stdout)
	root.SetErr(p.stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	var exit *exitError
	if !errors.As(err, &exit) {
		exit = &exitError{exitFailed, err}
	}
	if exit.err != nil {
		fmt.Fprintf(p.stderr, "gateway: %v\n", exit.err)
	}
	return exit.code
}

func newRoot(p process) *cobra.Command {
	root := &cobra.Command{
		Use:   "gateway",
		Short: "The one door of Sallyport's sandboxes",
		Long: `gateway is the one door of Sallyport's sandboxes: an ordinary process that lets
a sandbox reach its own model and nothing else, and records each refused attempt.
"launcher" starts it when needed; you look at it with status and audit.`,
		Example: `  gateway status            is it running, and for whom
  gateway audit --denied    what was refused, and why
  gateway check             is the configuration right`,
		Version:       version(),
		Args:          noCommand,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usage(fmt.Errorf("%w; hint: %s --help", err, c.CommandPath()))
	})
	root.PersistentFlags().String("config", "", "configuration `file` (default: config.yaml in the user's config folder)")
	root.AddCommand(newRunCommand(p), newStatusCommand(p), newAuditCommand(p), newDownCommand(p), newCheckCommand(p),
		newWallCommand(p), newHoldCommand(p), newLookoutCommand(), newProbeCommand(p), newProveCommand(p), newVerifyCommand(p), newProbesCommand(p), newPeerCommand(p), newDemoModelCommand(p), newFetchWeightsCommand(p),
		newModelRunCommand(p), newModelInsideCommand(), newModelStateCommand(p), newModelLogCommand(p))
	return root
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

// version is the module's version, or the commit that it was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return info.Main.Version
}

// paths are those of the user who runs the command; root sees those of the user
// that its gateway runs as.
func (p process) paths() (control.Paths, error) {
	if os.Geteuid() == 0 {
		u, err := ordinaryUser("", ".", p.getenv)
		return control.PathsFor(u.UID, u.Home, nil), err
	}
	home := p.getenv("HOME")
	if home == "" {
		return control.Paths{}, usage(errors.New("HOME is not set; hint: it says where the state and the configuration are"))
	}
	return control.PathsFor(os.Getuid(), home, p.getenv), nil
}
