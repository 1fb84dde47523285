package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/config"
	"github.com/sallyport/sallyport/containers"
	"github.com/sallyport/sallyport/verify"
	"github.com/sallyport/sallyport/verify/battery"
	"github.com/sallyport/sallyport/verify/probe"
	"golang.org/x/sys/unix"
)

// end ends a sandbox, and shows that its model endpoint ended with it.
func (v *verification) end(ctx context.Context, s *session, target probe.Target, answers map[string]battery.Answer) error {
	if !battery.Has(v.probes, battery.Ended) {
		return s.unregister(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, batteryTime)
	defer cancel()
	id, err := v.createProbe(ctx, containers.ProbeSpec{Name: "sallyport-verify-" + v.run + "-" + s.id, Cmd: []string{"probes"}, Network: "container:" + s.holder})
	if err != nil {
		return err
	}
	c, err := v.converse(ctx, id)
	if err != nil {
		return err
	}
	defer c.close()
	request := battery.Request{Target: target, Probes: []string{battery.Ended}}
	v.controls[probe.BeforeEnd], err = c.ask(request)
	if err != nil {
		return err
	}
	if err := s.unregister(ctx); err != nil {
		return err
	}
	after, err := c.ask(request)
	answers[battery.Ended] = after[battery.Ended]
	return err
}

// connectByHand connects a sandbox's holder to a network with a peer in it, as `docker
// network connect` does, and waits until it is out of it again.
func (v *verification) connectByHand(ctx context.Context, s *session) battery.Answer {
	began := time.Now()
	answer := battery.Answer{Probe: battery.ByHand}
	if err := v.engine.Connect(ctx, v.peer.network, s.holder); err != nil {
		answer.Finding = probe.Finding{Outcome: verify.Unproven, Absent: true, Detail: "the engine refuses: " + err.Error()}
		return answer
	}
	v.controlled(battery.ByHand, probe.Reached("the engine connects it"))
	want := probe.Event{Layer: audit.LayerControl, Rule: "foreign-interface"}
	answer.Finding = probe.Blocked("the interface was deleted", want)
	ctx, cancel := context.WithTimeout(ctx, byHandTime)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond) // the record is a file: it is looked at again
	defer tick.Stop()
	for {
		events, err := v.events(ctx, s.id)
		if err == nil && slices.ContainsFunc(events, func(e audit.Event) bool { return e.Denied() && e.Layer == audit.LayerControl }) {
			answer.Seconds = time.Since(began).Seconds()
			return answer
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			answer.Finding = probe.Reached("%s after the engine connected it, nothing says that the interface is gone", byHandTime)
			return answer
		}
	}
}

// printEscapes has a container print what acts on a terminal beyond its screen, and
// looks at what the launcher passes on to one.
func (v *verification) printEscapes(ctx context.Context, as string) (battery.Answer, error) {
	began := time.Now()
	answer := battery.Answer{Probe: battery.Escapes}
	if v.config.Agent.Terminal == config.TerminalRaw {
		answer.Finding = probe.Finding{Outcome: verify.Unproven, Absent: true, Detail: "agent.terminal is raw: whatever an agent prints reaches the terminal"}
		return answer, nil
	}
	ctx, cancel := context.WithTimeout(ctx, batteryTime)
	defer cancel()
	id, err := v.createProbe(ctx, containers.ProbeSpec{Name: "sallyport-verify-" + v.run + "-escapes-" + as, Cmd: []string{"probes", "--escapes"}, Network: "none"})
	if err != nil {
		return answer, err
	}
	c, err := v.converse(ctx, id)
	if err != nil {
		return answer, err
	}
	defer c.close()
	raw, err := io.ReadAll(io.LimitReader(c.out, 64<<10))
	if err != nil {
		return answer, fmt.Errorf("read what a container prints: %w", err)
	}
	var shown strings.Builder
	if _, err := v.filtered(&shown).Write(raw); err != nil {
		return answer, err
	}
	sent, sentErr := battery.EscapesIn(string(raw))
	passed, passedErr := battery.EscapesIn(shown.String())
	if err := errors.Join(sentErr, passedErr); err != nil {
		answer.Finding = probe.Unproven("%v", err)
		return answer, nil
	}
	if len(sent) > 0 {
		v.controlled(battery.Escapes, probe.Reached("a container's output holds %d of them", len(sent)))
	}
	answer.Finding = probe.Finding{Outcome: verify.StoppedInside, Detail: fmt.Sprintf("the launcher drops %d of %d on the way to the terminal", len(sent)-len(passed), len(sent))}
	if len(passed) > 0 {
		answer.Finding = probe.Reached("the terminal gets %s", strings.Join(passed, "; "))
	}
	answer.Seconds = time.Since(began).Seconds()
	return answer, nil
}

// awaitEvents returns what the record holds of a sandbox once that is all that the
// attempts say it must, or else after recordTime. The sandbox's end does not wait for
// the wall, which tells of a packet after it has refused it.
func (v *verification) awaitEvents(ctx context.Context, id string, answers map[string]battery.Answer) ([]audit.Event, error) {
	until, cancel := context.WithTimeout(ctx, recordTime)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond) // the record is a file: it is looked at again
	defer tick.Stop()
	for {
		events, err := v.events(ctx, id)
		if err != nil || (battery.Evidence{Sandbox: answers, Events: events}).Complete() {
			return events, err
		}
		select {
		case <-tick.C:
		case <-until.Done():
			return events, ctx.Err()
		}
	}
}

// events are what the record holds of a sandbox, without the proof.
func (v *verification) events(ctx context.Context, id string) (events []audit.Event, err error) {
	record, err := audit.OpenReader(v.caller.paths.Audit())
	if err != nil {
		return nil, fmt.Errorf("read the record: %w", err)
	}
	defer record.Close()
	err = record.Events(ctx, audit.Filter{Sandbox: id, NotAgents: []string{proofAgent}}, audit.Page{}, func(e audit.Event) error {
		events = append(events, e)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the record: %w", err)
	}
	return events, nil
}

// touched says what arrived where nothing of a sandbox may.
func (v *verification) touched(ctx context.Context) ([]string, error) {
	var all []string
	for _, line := range v.traps.Touched() {
		control := slices.ContainsFunc(slices.Collect(maps.Keys(v.controls)), func(s probe.Setting) bool { return strings.Contains(line, string(s)) })
		if !control {
			all = append(all, "this host: "+line)
		}
	}
	for _, name := range v.server.Reached() {
		all = append(all, "the model server: "+name)
	}
	strangers, err := v.peer.strangers(ctx, v)
	if err != nil {
		return nil, err
	}
	for _, s := range strangers {
		all = append(all, "the peer: a packet of "+s)
	}
	return all, nil
}

func (v *verification) engineVersion(ctx context.Context) string {
	info, err := v.engine.Check(ctx)
	if err != nil {
		return "unknown"
	}
	return info.Version
}

func kernelRelease() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(u.Release[:])
}

func (v *verification) probeLabels() map[string]string { return v.labels(containers.RoleProbe) }
