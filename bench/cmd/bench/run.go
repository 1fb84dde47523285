package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/sallyport/sallyport/bench"
	"github.com/sallyport/sallyport/bench/cases"
	"github.com/sallyport/sallyport/bench/field"
	"github.com/sallyport/sallyport/internal/lab"
)

// flags are the command line.
type flags struct {
	cases  string
	engine string
	smoke  bool
	reps   int
	out    string
	json   string
	from   string
	list   bool
}

func parse(args []string, stderr io.Writer) (flags, error) {
	var f flags
	set := flag.NewFlagSet("bench", flag.ContinueOnError)
	set.SetOutput(stderr)
	set.StringVar(&f.cases, "case", "", "names of cases, with commas between; empty: all")
	set.StringVar(&f.engine, "engine", string(lab.Engine28), "the laptop's Docker engine: 20.10 or 28")
	set.BoolVar(&f.smoke, "smoke", false, "only see that it works: the numbers mean nothing")
	set.IntVar(&f.reps, "reps", 0, "repetitions of each side; 0: each case's own")
	set.StringVar(&f.out, "out", "", "folder in which benchmarks.md and benchmarks.svg are written anew; empty: neither")
	set.StringVar(&f.json, "json", "", "file that the results are written to; empty: none")
	set.StringVar(&f.from, "from", "", "measure nothing: take the results from files that -json wrote, with commas between, of one machine")
	set.BoolVar(&f.list, "list", false, "print the cases' names and end")
	if err := set.Parse(args); err != nil {
		return f, err
	}
	if set.NArg() > 0 {
		return f, fmt.Errorf("unknown argument %q", set.Arg(0))
	}
	return f, nil
}

// run returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	f, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err == nil {
		err = do(ctx, f, stdout, stderr)
	}
	if err != nil {
		fmt.Fprintf(stderr, "bench: %v\n", err)
		return 1
	}
	return 0
}

func do(ctx context.Context, f flags, stdout, stderr io.Writer) error {
	chosen, err := choose(cases.All(), f.cases)
	if err != nil {
		return err
	}
	if f.list {
		for _, c := range chosen {
			fmt.Fprintf(stdout, "%-20s %s\n", c.Name, c.Title)
		}
		return nil
	}
	if f.from != "" {
		return again(f, stdout)
	}
	began := time.Now()
	say := func(format string, args ...any) {
		fmt.Fprintf(stderr, "%6.0f s  %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, args...))
	}
	report, err := measure(ctx, f, chosen, say, stdout)
	if len(report.Results) > 0 { // what was measured before a failure is worth keeping
		err = errors.Join(err, write(report, f))
	}
	return err
}

// again prints and writes results that there are.
func again(f flags, stdout io.Writer) error {
	var reports []bench.Report
	for file := range strings.SplitSeq(f.from, ",") {
		r, err := bench.ReadJSON(file)
		if err != nil {
			return err
		}
		reports = append(reports, r)
	}
	r, err := bench.Join(reports...)
	if err != nil {
		return err
	}
	for _, result := range r.Results {
		if err := result.Table(stdout); err != nil {
			return err
		}
	}
	return write(r, f)
}

// choose finds cases by their names.
func choose(all []bench.Case, names string) ([]bench.Case, error) {
	if names == "" {
		return all, nil
	}
	var chosen []bench.Case
	for name := range strings.SplitSeq(names, ",") {
		i := slices.IndexFunc(all, func(c bench.Case) bool { return c.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("there is no case %q; -list names them", name)
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

// measure runs the cases one after the other, each on a field as the first one found it.
func measure(ctx context.Context, o flags, chosen []bench.Case, say func(string, ...any), stdout io.Writer) (r bench.Report, err error) {
	say("start the lab")
	f, err := field.Start(ctx, field.Options{Engine: lab.Engine(o.engine), Scale: field.Scale{Smoke: o.smoke}})
	if err != nil {
		return r, err
	}
	defer func() {
		say("remove the lab")
		err = errors.Join(err, f.Close())
	}()
	if r.Facts, err = f.Facts(ctx); err != nil {
		return r, err
	}
	r.Smoke = o.smoke
	var failed []error
	for _, c := range chosen {
		result, err := bench.Run(ctx, f, c, bench.Options{Reps: o.reps, Smoke: o.smoke, Say: say})
		if err != nil {
			return r, err
		}
		r.Results = append(r.Results, result)
		failed = append(failed, result.Err(), result.Table(stdout), f.Reset(ctx))
	}
	return r, errors.Join(failed...)
}

// write writes the files that were asked for.
func write(r bench.Report, o flags) error {
	var errs []error
	if o.json != "" {
		errs = append(errs, r.WriteJSON(o.json))
	}
	if o.out != "" {
		errs = append(errs, r.WriteDocs(o.out))
	}
	return errors.Join(errs...)
}
