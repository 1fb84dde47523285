// Command probes runs the probes of the groups inside and host in the container that
// it is started in, against the target in its first argument, and prints a finding a
// line as JSON. A second argument has each probe's Own started first. Without
// arguments it waits to be ended.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/sallyport/sallyport/verify/host"
	"github.com/sallyport/sallyport/verify/inside"
	"github.com/sallyport/sallyport/verify/probe"
)

func main() {
	if len(os.Args) < 2 {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		<-ctx.Done()
		return
	}
	var t probe.Target
	if err := json.Unmarshal([]byte(os.Args[1]), &t); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for _, p := range slices.Concat(inside.Probes(), host.Probes()) {
		if len(os.Args) > 2 && p.Own == nil {
			continue
		}
		line := struct {
			Name    string
			Finding probe.Finding
		}{p.Name, run(p, t, len(os.Args) > 2)}
		if err := json.NewEncoder(os.Stdout).Encode(line); err != nil {
			os.Exit(1)
		}
	}
}

func run(p probe.Probe, t probe.Target, own bool) probe.Finding {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if own {
		if err := p.Own(ctx, &t); err != nil {
			return probe.Stopped(err, "start its own listener")
		}
	}
	return p.Try(ctx, t)
}
