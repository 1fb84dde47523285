package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/sallyport/sallyport/config"
	"github.com/sallyport/sallyport/models"
	"github.com/sallyport/sallyport/terminal"
	"github.com/spf13/cobra"
)

// initFlags are the answers that were given on the command line.
type initFlags struct {
	host, model, weights, engine string
	yes, offline, force          bool
}

func newInitCommand(o *options) *cobra.Command {
	var f initFlags
	c := &cobra.Command{
		Use:   "init",
		Short: "Ask three questions, test the answers, and write the configuration",
		Long: `Ask where the GPU is, which model you want and where weights belong; test each answer
as it comes; and write the configuration. A file that is there is not changed. What a
flag answers is not asked. Ctrl-C writes nothing.

Without a terminal, --host, --model and --yes answer everything; --weights may be left
out: the usual folder of Hugging Face's cache.`,
		Example: `  launcher init
  launcher init --host me@strix --model gpt-oss --yes
  launcher init --host local --model gpt-oss-20b --engine llama.cpp --dry-run
  launcher init --host strix --model gpt-oss --yes --offline    test nothing`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.init(cmd.Context(), f) },
	}
	flags := c.Flags()
	flags.StringVar(&f.host, "host", "", "where the GPU is: local, or an SSH `destination` or alias")
	flags.StringVar(&f.model, "model", "", "`name` of a known model")
	flags.StringVar(&f.weights, "weights", "", "`folder` for weights, on the machine with the GPU (default: where Hugging Face's cache is)")
	flags.StringVar(&f.engine, "engine", "", "`engine` that serves the model: vllm or llama.cpp (default: the model's)")
	flags.BoolVar(&f.yes, "yes", false, "take the usual answer where none is given, and write without asking")
	flags.BoolVar(&f.offline, "offline", false, "test nothing")
	flags.BoolVar(&f.force, "force", false, "replace a file that is there, and keep it as config.yaml.bak")
	_ = c.RegisterFlagCompletionFunc("model", completeKnown) // the flags are there
	_ = c.RegisterFlagCompletionFunc("engine", completeEngines)
	return o.dryFlag(c)
}

func completeKnown(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return knownNames(), cobra.ShellCompDirectiveNoFileComp
}

func completeEngines(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return []string{string(models.VLLM), string(models.LlamaCPP)}, cobra.ShellCompDirectiveNoFileComp
}

// answers are what the configuration is made of.
type answers struct {
	host    string         // name; empty: this machine
	ssh     string         // its SSH destination
	model   string         // as the user calls it
	profile models.Profile // with the engine that was chosen
	engine  models.Engine  // empty: the profile's own
	weights string         // folder; empty: the usual one
}

// interview is one run of launcher init.
type interview struct {
	options *options
	flags   initFlags
	caller  caller
	config  *config.Config // what there is, or the defaults: for the way to hosts
	path    string         // of the file
	exists  bool           // it is there
	ask     *asker         // nil: nobody can be asked
	said    answers

	sites    *sites // of the last test
	site     *site  // the machine that was tested; nil: none was
	complete bool   // the weights are there
}

func (o *options) init(ctx context.Context, f initFlags) error {
	v, err := o.newInterview(f)
	if err != nil {
		return err
	}
	defer v.close()
	for _, question := range []func(context.Context) error{v.where, v.which, v.folder} {
		if err := question(ctx); err != nil {
			return v.unwritten(ctx, err)
		}
	}
	return v.unwritten(ctx, v.finish(ctx))
}

// unwritten is err, which says that nothing was written if the user ended it.
func (v *interview) unwritten(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		fmt.Fprintln(v.options.stderr, "\nnothing was written")
		return errInterrupted
	}
	return err
}

func (v *interview) close() {
	if v.sites != nil {
		v.sites.closeAll()
	}
}

func (o *options) newInterview(f initFlags) (*interview, error) {
	c, err := o.caller()
	if err != nil {
		return nil, err
	}
	if f.engine != "" && f.engine != string(models.VLLM) && f.engine != string(models.LlamaCPP) {
		return nil, usage(fmt.Errorf("--engine %s is none that there is; hint: vllm or llama.cpp", f.engine))
	}
	v := &interview{options: o, flags: f, caller: c, path: o.configFile}
	if v.path == "" {
		v.path = config.DefaultPath(o.lookupenv, c.ownHome)
	}
	if _, err := os.Lstat(v.path); err == nil {
		v.exists = true
	} else if !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("look for a configuration: %w", err)
	}
	switch {
	case o.atTerminal():
		v.ask = newAsker(o.stdin, o.stderr)
	case f.host == "" || f.model == "" || !f.yes && !o.dryRun:
		return nil, usage(errors.New("there is no terminal to ask questions at; hint: launcher init --host local|DESTINATION --model NAME --yes"))
	}
	return v, v.begin()
}

// atTerminal reports whether somebody can be asked.
func (o *options) atTerminal() bool {
	shown, ok := o.stderr.(*os.File)
	return ok && terminal.IsTerminal(o.stdin) && terminal.IsTerminal(shown)
}

// begin reads what there is, and says what is going to happen.
func (v *interview) begin() error {
	var err error
	if v.exists {
		v.config, err = config.Load(config.Options{Path: v.path, Environ: v.options.lookupenv, Home: v.caller.ownHome})
		if err != nil {
			v.warn("the configuration that is there cannot be read: %v", err)
		}
	}
	if v.config == nil {
		if v.config, err = defaultConfig(); err != nil {
			return err
		}
	}
	if v.ask != nil {
		v.say("Three questions; an empty answer takes the one in [brackets]. Ctrl-C writes nothing.")
	}
	if v.exists && !v.flags.force {
		v.say("%s is there and will not be changed: at the end you see what to add (--force replaces it).", v.path)
	}
	if v.flags.offline {
		v.say("--offline: no answer is tested.")
	}
	return nil
}

func (v *interview) say(format string, args ...any) {
	if !v.options.quiet {
		fmt.Fprintln(v.options.stderr, printable(fmt.Sprintf(format, args...)))
	}
}

func (v *interview) warn(format string, args ...any) {
	fmt.Fprintf(v.options.stderr, "launcher: %s\n", printable(fmt.Sprintf(format, args...)))
}

// show shows what a test found, and reports whether it failed.
func (v *interview) show(name string, f finding) (bad bool) {
	f.Check = name
	if f.Verdict != verdictFail && v.options.quiet {
		return false
	}
	printFinding(v.options.stderr, f, terminalColour(v.options))
	return f.Verdict != verdictOK && f.Verdict != verdictWarn && f.Verdict != verdictSkip
}

// question asks until an answer passes its test. What a flag answers is tested
// once. usual is the answer that is taken with --yes, or for an empty one; empty:
// there is none.
func (v *interview) question(ctx context.Context, text, flag, usual string, test func(context.Context, string) error) error {
	if flag != "" {
		return test(ctx, flag)
	}
	if v.flags.yes && usual != "" {
		return test(ctx, usual)
	}
	if v.ask == nil {
		return test(ctx, usual)
	}
	prompt := text
	if usual != "" {
		prompt += " [" + usual + "]"
	}
	for {
		answer, err := v.ask.line(ctx, prompt+": ")
		if err != nil {
			return err
		}
		if answer = strings.TrimSpace(answer); answer == "" {
			answer = usual
		}
		if answer == "" {
			v.say("  an answer is needed")
			continue
		}
		err = test(ctx, answer)
		if err == nil || ctx.Err() != nil {
			return err
		}
		if !errors.Is(err, errShown) {
			v.show("answer", failed(err))
		}
	}
}

// errShown says that an answer failed its test, and that the reason was shown.
var errShown = &exitError{code: exitFailed}
