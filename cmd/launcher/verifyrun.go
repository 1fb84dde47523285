package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/sallyport/sallyport/containers"
	"github.com/sallyport/sallyport/sandbox"
	"github.com/sallyport/sallyport/verify/battery"
	"github.com/sallyport/sallyport/verify/endpoint"
	"github.com/sallyport/sallyport/verify/host"
	"github.com/sallyport/sallyport/verify/probe"
)

// verifyAgent is the name in events of what verify tries.
const verifyAgent = "verify"

const (
	byHandTime = 3 * time.Second  // for an interface that was put into a sandbox to be there
	recordTime = 10 * time.Second // for the wall to tell what it refused, and the gateway to record it
)

// verification is one run of the battery. Two sandboxes are made: one for each user
// to try to get out of, which is the other one's neighbour.
type verification struct {
	verifyOptions
	*session  // the first sandbox
	second    *session
	probes    []probe.Probe
	run       string // nonce
	traps     *host.Traps
	server    *endpoint.Server
	peer      peer
	page      string                       // address:port of the gateway's page; empty: none
	addresses map[string]sandbox.Addresses // by sandbox
	controls  map[probe.Setting]map[string]battery.Answer
	known     []netip.Addr // of the control's containers, which do reach the peer
}

func (o *options) runVerify(ctx context.Context, opt verifyOptions, probes []probe.Probe) (err error) {
	s, err := o.newSession(ctx, request{agent: "run", model: "demo"})
	if err != nil {
		return err
	}
	defer s.engine.Close()
	var nonce [4]byte
	rand.Read(nonce[:])
	v := &verification{verifyOptions: opt, session: s, probes: probes, run: hex.EncodeToString(nonce[:]),
		addresses: map[string]sandbox.Addresses{}, controls: map[probe.Setting]map[string]battery.Answer{}}
	report, err := v.verify(ctx)
	if err != nil {
		return err
	}
	if err := o.printReport(report, opt.json); err != nil {
		return err
	}
	if !report.OK() {
		return &exitError{exitFailed, errors.New("something got out, was not recorded, or could not be shown; hint: do not run agents on this machine until it is understood; gateway status names the log, and SECURITY.md says how to report it")}
	}
	return nil
}

// verify does the steps in their order, and undoes at the end whatever was begun.
func (v *verification) verify(ctx context.Context) (report battery.Report, err error) {
	defer func() {
		if ctx.Err() != nil && errors.Is(err, context.Canceled) {
			err = errInterrupted
		}
		err = errors.Join(err, v.cleanUp(context.WithoutCancel(ctx)))
	}()
	if err := v.caller.makeHome(); err != nil {
		return report, err
	}
	if err := v.engine.SweepNetworks(ctx, fmt.Sprint(v.caller.uid), launcherAlive); err != nil {
		return report, err
	}
	if err := v.prepareShared(ctx); err != nil {
		return report, err
	}
	for _, step := range []func(context.Context) error{v.findPage, v.makeProject, v.startServer, v.startTraps, v.startSandboxes, v.startPeer, v.runControls} {
		if err := step(ctx); err != nil {
			return report, err
		}
	}
	report = battery.Report{Run: v.run, Engine: v.engineVersion(ctx), Kernel: kernelRelease(), Touched: []string{}}
	for _, as := range v.as {
		u, err := v.runAs(ctx, as)
		if err != nil {
			return report, err
		}
		report.Runs = append(report.Runs, u)
		v.progress.done(as, "%s", u.Counts)
	}
	touched, err := v.touched(ctx)
	report.Touched = append(report.Touched, touched...)
	return report, err
}

// makeProject makes a project folder with a repository, as an agent has one.
func (v *verification) makeProject(context.Context) error {
	folder, err := os.MkdirTemp("", "sallyport-verify-")
	if err != nil {
		return fmt.Errorf("make a project: %w", err)
	}
	v.undo = append(v.undo, func(context.Context) error { return os.RemoveAll(folder) })
	git := filepath.Join(folder, ".git")
	for _, path := range []string{git, filepath.Join(git, "hooks"), filepath.Join(git, "objects"), filepath.Join(git, "refs")} {
		err = errors.Join(err, os.Mkdir(path, 0o755))
	}
	err = errors.Join(err, os.WriteFile(filepath.Join(git, "HEAD"), []byte("ref: refs/heads/main\n"), 0o644))
	if v.caller.root && err == nil {
		err = filepath.WalkDir(folder, func(path string, _ os.DirEntry, err error) error {
			return errors.Join(err, os.Lchown(path, v.caller.uid, v.caller.gid))
		})
	}
	if err != nil {
		return fmt.Errorf("make a project: %w", err)
	}
	v.caller.folder = folder
	return nil
}

// projectBinds are the project and what guards its repository.
func (v *verification) projectBinds() ([]containers.Bind, error) {
	git, err := containers.GitMounts(v.caller.folder)
	return append([]containers.Bind{{Source: v.caller.folder, Target: v.caller.folder}}, git.Binds...), err
}

// startServer starts the model server that the sandboxes are given: it answers as a
// model does, and misbehaves when a probe asks for it.
func (v *verification) startServer(ctx context.Context) error {
	folder := v.modelSocketFolder()
	v.undo = append(v.undo, func(context.Context) error { return v.caller.removeFolder(folder) })
	if err := v.caller.makeFolder(folder); err != nil {
		return err
	}
	path := filepath.Join(folder, "model.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		return fmt.Errorf("listen as the model server: %w", err)
	}
	if v.caller.root {
		if err := os.Lchown(path, v.caller.uid, v.caller.gid); err != nil {
			return errors.Join(fmt.Errorf("hand the model's socket over: %w", err), l.Close())
		}
	}
	v.server = endpoint.NewServer(v.run)
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- v.server.Serve(serving, l) }()
	v.undo = append(v.undo, func(context.Context) error { stop(); return <-ended })
	v.model.Upstream.Address = path
	check, err := v.client.CheckModel(ctx, v.model.Upstream)
	if err == nil && !check.OK {
		err = v.notReady(check)
	}
	return err
}

func (v *verification) startTraps(ctx context.Context) (err error) {
	if v.traps, err = host.Open(ctx, v.run); err != nil {
		return fmt.Errorf("listen on this host: %w", err)
	}
	v.undo = append(v.undo, func(context.Context) error { return v.traps.Close() })
	return nil
}

// startSandboxes starts the two sandboxes, each without an agent.
func (v *verification) startSandboxes(ctx context.Context) error {
	second := *v.session
	second.undo, second.token = nil, rand.Text()+rand.Text()
	var id [6]byte
	rand.Read(id[:])
	second.id = hex.EncodeToString(id[:])
	v.second = &second
	v.undo = append(v.undo, v.second.cleanUp)
	for _, s := range []*session{v.session, v.second} {
		a, err := s.startSandbox(ctx)
		if err != nil {
			return err
		}
		v.addresses[s.id] = a
	}
	return nil
}

// sandboxOf returns the sandbox for a user, and its neighbour.
func (v *verification) sandboxOf(as string) (own, other *session) {
	if as == asAgent {
		return v.session, v.second
	}
	return v.second, v.session
}

// target is what a user's run aims at.
func (v *verification) target(as string) probe.Target {
	own, other := v.sandboxOf(as)
	a, b := v.addresses[own.id], v.addresses[other.id]
	t := v.common(probe.Sandbox)
	t.Root = as == asRoot
	t.Own4, t.Gate4 = a.Sandbox4, a.Gate4
	if own.ipv6 {
		t.Own6, t.Gate6 = a.Sandbox6, a.Gate6
	}
	t.Resolver = netip.AddrPortFrom(a.Gate4, 53)
	t.Proxy = netip.AddrPortFrom(a.Gate4, sandbox.ProxyPort)
	t.Model = netip.AddrPortFrom(a.Gate4, sandbox.ModelPort)
	t.Other4, t.OtherModel = b.Sandbox4, netip.AddrPortFrom(b.Gate4, sandbox.ModelPort)
	t.Project, t.Home = v.caller.folder, homeInside
	return t
}

// common is what is the same in all settings.
func (v *verification) common(s probe.Setting) probe.Target {
	t := probe.Target{Setting: s, Run: v.run, ModelName: v.model.Name, Rebinds: v.rebinding,
		Public4: v.peer.addr, Public6: v.peer.addr6, Second: netip.AddrPortFrom(v.peer.addr, 443)}
	if v.public4.IsValid() {
		t.Public4 = v.public4
	}
	if v.public6.IsValid() {
		t.Public6 = v.public6
	}
	v.traps.Describe(&t.Host)
	p := v.caller.paths
	t.Host.Sockets = []string{p.ControlSocket(), p.MetricsSocket(), p.WallFolder(), p.State, v.engine.Socket(), "/var/run/docker.sock", "/run/docker.sock"}
	if v.page != "" {
		t.Host.Listeners = append(t.Host.Listeners, v.page)
	}
	return t
}

// findPage asks where the gateway's page is; one that is not served is no way out.
func (v *verification) findPage(ctx context.Context) error {
	page, err := v.client.Page(ctx)
	if err != nil {
		v.progress.note("the page is not tried: %v", err)
		return nil
	}
	u, err := url.Parse(page.URL)
	if err != nil {
		return fmt.Errorf("read the page's address: %w", err)
	}
	v.page = u.Host
	return nil
}

// runAs runs the battery as one user and judges it.
func (v *verification) runAs(ctx context.Context, as string) (u battery.UserRun, err error) {
	s, _ := v.sandboxOf(as)
	probes := v.probes
	if as == asRoot { // who has capabilities does not pass the proof, and no agent has
		probes = slices.DeleteFunc(slices.Clone(probes), func(p probe.Probe) bool { return p.Name == battery.StartProof })
	}
	request := battery.Request{Target: v.target(as), Probes: battery.Names(probes)}
	var answers map[string]battery.Answer
	if as == asAgent {
		answers, err = v.runAgentProbes(ctx, request)
	} else {
		answers, err = v.runRootProbes(ctx, request)
	}
	if err != nil {
		return u, fmt.Errorf("run the probes as %s: %w", as, err)
	}
	if battery.Has(v.probes, battery.ByHand) {
		answers[battery.ByHand] = v.connectByHand(ctx, s)
	}
	if battery.Has(v.probes, battery.Escapes) {
		if answers[battery.Escapes], err = v.printEscapes(ctx, as); err != nil {
			return u, err
		}
	}
	if err := v.end(ctx, s, request.Target, answers); err != nil { // which records what its servers had
		return u, err
	}
	events, err := v.awaitEvents(ctx, s.id, answers)
	if err != nil {
		return u, err
	}
	u = battery.UserRun{User: as, Sandbox: s.id, Results: battery.Judge(probes, battery.Evidence{Sandbox: answers, Controls: v.controls, Events: events})}
	u.Counts = battery.Count(u.Results)
	return u, nil
}
