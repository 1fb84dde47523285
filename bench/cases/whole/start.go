package whole

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport/sallyport/bench"
	"github.com/sallyport/sallyport/bench/field"
	"github.com/sallyport/sallyport/internal/lab"
)

// Sides that start a container without us.
const (
	dockerRun     = "docker run"
	dockerRunNone = "docker run --network none"
)

// clock is what is started by sh: it says when it began. Only bash knows the time by
// itself, and the launcher's sh need not be one.
const clock = "exec bash -c 'echo began=$EPOCHREALTIME'"

// stepNames are what the launcher says that it has done, in its order.
var stepNames = []string{"gateway", "wall", "model", "sandbox", "proof"}

// start is the time from the command to the agent's own first moment.
func start() bench.Case {
	return bench.Case{
		Name: "start", Title: "from the command to the agent's process, the gateway and the wall running: launcher with the demo model",
		Metrics: []bench.Metric{{Name: "start", Unit: "ms", Less: true}},
		Sides: []bench.Side{
			{Name: dockerRun, Start: starter("docker", "run", "--rm")},
			{Name: dockerRunNone, Start: starter("docker", "run", "--rm", "--network", "none")},
			{Name: bench.Ours, Start: product1},
		},
		Bars: []bench.Bar{
			{Metric: "start", Of: dockerRunNone, Bar: 3, Aim: 2},
			{Metric: "start", Of: dockerRun, Bar: 3, Aim: 2},
		},
		Reps: 20,
		Notes: "The same image and the same process, a shell that prints the time. We start three containers (the stand-in model, the holder of the sandbox's " +
			"network, the agent) and prove that the sandbox is closed before the agent runs. The median is of all runs, in turns.",
	}
}

// steps is what of that each step adds.
func steps() bench.Case {
	c := bench.Case{
		Name: "start-steps", Title: "the same start, by what each step adds",
		Metrics: []bench.Metric{{Name: "start", Unit: "ms", Less: true}},
		Sides:   []bench.Side{{Name: bench.Ours, Start: productSteps}},
		Reps:    20,
		Notes: "What the launcher prints. Steps run beside each other: one that has been done when the one before it was adds nothing. " +
			"start is the whole, with the time before the launcher's first step and after its last.",
	}
	for _, name := range stepNames {
		c.Metrics = append(c.Metrics, bench.Metric{Name: name, Unit: "ms", Less: true})
	}
	return c
}

func starter(words ...string) func(context.Context, *field.Field) (bench.Runner, error) {
	return func(ctx context.Context, f *field.Field) (bench.Runner, error) {
		words := append(words, "--user", fmt.Sprintf("%d:%[1]d", lab.UserID), f.Lab.AgentImage, "sh", "-c", clock)
		run := func(ctx context.Context, f *field.Field) (bench.Sample, error) {
			took, _, err := timed(ctx, f, f.Lab.Laptop.Home, words...)
			return bench.Sample{"start": took}, err
		}
		_, err := run(ctx, f) // the image is in memory
		return runner{run: run}, err
	}
}

// launched starts an agent once, and times it.
type launched func(ctx context.Context) (took float64, said string, err error)

// warm has gateway, wall and images there, and a project.
func warm(ctx context.Context, f *field.Field) (launched, error) {
	if err := f.Product(ctx, field.Config{}); err != nil {
		return nil, err
	}
	dir := filepath.Join(f.Lab.Laptop.Home, "start")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if err := os.Chown(dir, lab.UserID, lab.UserID); err != nil {
		return nil, err
	}
	once := func(ctx context.Context) (float64, string, error) {
		return timed(ctx, f, dir, "launcher", "shell", "demo", "--", "-c", clock)
	}
	_, _, err := once(ctx)
	return once, err
}

func product1(ctx context.Context, f *field.Field) (bench.Runner, error) {
	once, err := warm(ctx, f)
	return runner{run: func(ctx context.Context, _ *field.Field) (bench.Sample, error) {
		took, _, err := once(ctx)
		return bench.Sample{"start": took}, err
	}}, err
}

func productSteps(ctx context.Context, f *field.Field) (bench.Runner, error) {
	once, err := warm(ctx, f)
	return runner{run: func(ctx context.Context, _ *field.Field) (bench.Sample, error) {
		took, said, err := once(ctx)
		if err != nil {
			return nil, err
		}
		sample, err := parseSteps(said)
		if err == nil {
			sample["start"] = took
		}
		return sample, err
	}}, err
}

// timed runs a command on the laptop and returns how long it took until its clock
// began, in milliseconds, and what it wrote to standard error.
func timed(ctx context.Context, f *field.Field, dir string, words ...string) (took float64, said string, err error) {
	cmd := f.Lab.Laptop.Command(ctx, words[0], words[1:]...)
	cmd.Dir = dir
	var out, text strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &text
	began := time.Now()
	if err := cmd.Run(); err != nil {
		return 0, "", fmt.Errorf("%v: %w: %s", words, err, text.String())
	}
	_, at, found := strings.Cut(out.String(), "began=")
	micros, err := parseClock(strings.TrimSpace(at))
	if !found || err != nil {
		return 0, "", fmt.Errorf("%v: it says %q: %w", words, out.String(), err)
	}
	return float64(micros-began.UnixMicro()) / 1e3, text.String(), nil
}

// parseClock reads bash's EPOCHREALTIME, in microseconds.
func parseClock(text string) (int64, error) {
	seconds, micros, _ := strings.Cut(text, ".")
	if len(micros) != 6 {
		return 0, fmt.Errorf("%q is no time", text)
	}
	return strconv.ParseInt(seconds+micros, 10, 64)
}

var step = regexp.MustCompile(`(?m)^ok +(\S+) .*\(([0-9.]+(?:ms|s|µs))\)$`)

// parseSteps reads the launcher's lines. Those of an image that is there already are
// part of the next.
func parseSteps(said string) (bench.Sample, error) {
	sample, more := bench.Sample{}, 0.0
	for _, m := range step.FindAllStringSubmatch(said, -1) {
		took, err := time.ParseDuration(m[2])
		if err != nil {
			return nil, err
		}
		if m[1] == "image" {
			more = took.Seconds() * 1e3
			continue
		}
		sample[m[1]], more = took.Seconds()*1e3+more, 0
	}
	for _, name := range stepNames {
		if _, ok := sample[name]; !ok {
			return nil, fmt.Errorf("the launcher says nothing of %s: %q", name, said)
		}
	}
	return sample, nil
}
