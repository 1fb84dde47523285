package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sallyport/sallyport/containers"
	"github.com/sallyport/sallyport/verify"
	"github.com/sallyport/sallyport/verify/battery"
	"github.com/sallyport/sallyport/verify/probe"
	"github.com/sallyport/sallyport/wall"
)

// The peer's network: addresses for benchmarks and documentation (RFC 2544, RFC 3849)
// that the internet does not have, so that what is aimed at there ends nowhere else.
var (
	peerSubnet  = netip.MustParsePrefix("198.18.51.0/24")
	peerSubnet6 = netip.MustParsePrefix("2001:db8:5a11::/64")
	peerAddr    = netip.MustParseAddr("198.18.51.10")
	peerAddr6   = netip.MustParseAddr("2001:db8:5a11::10")
)

const (
	peerTime    = 15 * time.Second // for the peer to listen
	batteryTime = 5 * time.Minute  // for a whole run in one container
	peerLines   = 2000             // of the peer's output that are read
)

// peer is the container that stands for the internet.
type peer struct {
	id, network string
	addr, addr6 netip.Addr
}

// startPeer makes a network of verify's own, with a peer that answers.
func (v *verification) startPeer(ctx context.Context) error {
	name := "sallyport-verify-" + v.run
	whole, cancel := uncut(ctx)
	defer cancel()
	spec := containers.NetworkSpec{Name: name, Subnet: peerSubnet, Subnet6: peerSubnet6, Labels: v.probeLabels()}
	v.peer.addr, v.peer.addr6 = peerAddr, peerAddr6
	var err error
	if v.peer.network, err = v.engine.CreateNetwork(whole, spec); err != nil { // a host without IPv6
		spec.Subnet6, v.peer.addr6 = netip.Prefix{}, netip.Addr{}
		var again error
		if v.peer.network, again = v.engine.CreateNetwork(whole, spec); again != nil {
			return fmt.Errorf("%w\nhint: does a network of yours have %s? docker network ls", errors.Join(err, again), peerSubnet)
		}
	}
	v.undo = append(v.undo, func(ctx context.Context) error { return v.engine.RemoveNetwork(ctx, v.peer.network) })
	v.peer.id, err = v.startProbe(ctx, containers.ProbeSpec{Name: name + "-peer", Cmd: []string{"peer"}, Network: name, Addr: v.peer.addr, Addr6: v.peer.addr6})
	if err != nil {
		return err
	}
	return v.awaitPeer(ctx)
}

// startProbe creates and starts a probe's container, which is removed at the end.
func (v *verification) startProbe(ctx context.Context, spec containers.ProbeSpec) (string, error) {
	id, err := v.createProbe(ctx, spec)
	if err != nil {
		return "", err
	}
	return id, v.engine.Start(ctx, id)
}

func (v *verification) createProbe(ctx context.Context, spec containers.ProbeSpec) (string, error) {
	whole, cancel := uncut(ctx)
	defer cancel()
	spec.Image, spec.Labels = v.helper, v.probeLabels()
	id, err := v.engine.CreateProbe(whole, spec)
	if err != nil {
		return "", err
	}
	v.undo = append(v.undo, func(ctx context.Context) error { return v.engine.Remove(ctx, id) })
	return id, ctx.Err()
}

// awaitPeer waits until the peer says that it listens.
func (v *verification) awaitPeer(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, peerTime)
	defer cancel()
	logs, err := v.engine.FollowLogs(ctx, v.peer.id, true, -1)
	if err != nil {
		return err
	}
	defer logs.Close()
	for lines := bufio.NewScanner(logs); lines.Scan(); {
		if strings.Contains(lines.Text(), battery.PeerReady) {
			return nil
		}
	}
	return fmt.Errorf("the peer did not start%s", v.lastLines(ctx, v.peer.id))
}

// strangers are those who sent the peer a packet and are no control.
func (p peer) strangers(ctx context.Context, v *verification) ([]string, error) {
	printed, err := v.engine.Logs(ctx, p.id, peerLines)
	if err != nil {
		return nil, err
	}
	return battery.Strangers(string(printed), v.known), nil
}

// runControls shows that the attempts succeed where nothing stands in the way: each
// in the weakest setting in which it does.
func (v *verification) runControls(ctx context.Context) error {
	left := v.probes
	network := "sallyport-verify-" + v.run
	var also []string
	if v.public4.IsValid() || v.public6.IsValid() {
		network, also = "bridge", []string{network}
	}
	for _, c := range []struct {
		setting probe.Setting
		spec    containers.ProbeSpec
		own     bool
	}{
		{probe.Ordinary, containers.ProbeSpec{Network: network, Also: also}, false},
		{probe.Unconfined, containers.ProbeSpec{Network: network, Also: also, Unconfined: true}, false},
		{probe.OwnListener, containers.ProbeSpec{Network: "none", Unconfined: true}, true},
	} {
		if len(battery.Names(left)) == 0 {
			break
		}
		if c.spec.Unconfined {
			c.spec.CapAdd = battery.Needs(left)
		}
		if c.own && !slices.Contains(c.spec.CapAdd, "NET_ADMIN") {
			c.spec.CapAdd = append(c.spec.CapAdd, "NET_ADMIN") // it gives lo more addresses
		}
		if c.own && wall.HasIPv6() { // which an old engine turns off where there is no network
			c.spec.Sysctls = map[string]string{"net.ipv6.conf.all.disable_ipv6": "0", "net.ipv6.conf.default.disable_ipv6": "0"}
		}
		c.spec.Name = fmt.Sprintf("sallyport-verify-%s-%s", v.run, strings.ReplaceAll(string(c.setting), " ", "-"))
		c.spec.Cmd = []string{"probes"}
		request := battery.Request{Target: v.common(c.setting), Probes: battery.Names(left), Own: c.own}
		request.Target.Root = true
		answers, err := v.runProbes(ctx, c.spec, request)
		if err != nil {
			return fmt.Errorf("run the control in an %s: %w", c.setting, err)
		}
		v.controls[c.setting] = answers
		before := len(left)
		left = slices.DeleteFunc(slices.Clone(left), func(p probe.Probe) bool { return answers[p.Name].Finding.Outcome == verify.Reached })
		v.progress.done("control", "%d attempts succeed in an %s", before-len(left), c.setting)
	}
	if battery.Has(v.probes, battery.StartProof) {
		return v.controlProof(ctx)
	}
	return nil
}

// controlled notes what an attempt of the launcher's own does in an ordinary container.
func (v *verification) controlled(name string, f probe.Finding) {
	if v.controls[probe.Ordinary] == nil {
		v.controls[probe.Ordinary] = map[string]battery.Answer{}
	}
	v.controls[probe.Ordinary][name] = battery.Answer{Finding: f}
}

// controlProof shows that an ordinary container does not pass for a closed one. It has
// no network, since the proof aims at addresses that are not verify's own.
func (v *verification) controlProof(ctx context.Context) error {
	id, err := v.createProbe(ctx, containers.ProbeSpec{Name: "sallyport-verify-" + v.run + "-proof", Network: "none",
		Cmd: []string{"prove", "--gate4", v.addresses[v.id].Gate4.String(), "--", "/gateway"}})
	if err != nil {
		return err
	}
	c, err := v.converse(ctx, id)
	if err != nil {
		return err
	}
	defer c.close()
	results, err := verify.ReadProof(c.out)
	if err != nil {
		return fmt.Errorf("run the proof in an ordinary container: %w", err)
	}
	if !verify.Passed(results) {
		v.controlled(battery.StartProof, probe.Reached("an ordinary container does not pass"))
	}
	return nil
}

// runRootProbes runs the battery as root in a sandbox's network.
func (v *verification) runRootProbes(ctx context.Context, request battery.Request) (map[string]battery.Answer, error) {
	s, _ := v.sandboxOf(asRoot)
	if err := v.client.SetAgent(ctx, s.id, verifyAgent); err != nil {
		return nil, err
	}
	binds, err := v.projectBinds()
	if err != nil {
		return nil, err
	}
	request.Target.Home = ""
	return v.runProbes(ctx, containers.ProbeSpec{
		Name: "sallyport-verify-" + v.run + "-root", Cmd: []string{"probes", "--sockets"}, Network: "container:" + s.holder, Binds: binds,
	}, request)
}

// runProbes runs a request in a container of its own.
func (v *verification) runProbes(ctx context.Context, spec containers.ProbeSpec, request battery.Request) (map[string]battery.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, batteryTime)
	defer cancel()
	id, err := v.createProbe(ctx, spec)
	if err != nil {
		return nil, err
	}
	c, err := v.converse(ctx, id)
	if err != nil {
		return nil, err
	}
	defer c.close()
	if addrs, err := v.engine.ContainerAddrs(ctx, id); err == nil && request.Target.Setting != probe.Sandbox {
		v.known = append(v.known, addrs...)
	}
	return c.ask(request)
}

// runAgentProbes runs the battery in a container exactly as an agent's: it shows
// first that it is closed, as an agent's does.
func (v *verification) runAgentProbes(ctx context.Context, request battery.Request) (map[string]battery.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, batteryTime)
	defer cancel()
	s, _ := v.sandboxOf(asAgent)
	s.request.image, s.request.args = v.helper, []string{binaryInside, "probes"}
	profile, err := s.profile(v.addresses[s.id])
	if err != nil {
		return nil, err
	}
	mounts, err := v.projectBinds()
	if err != nil {
		return nil, err
	}
	spec, err := s.agentSpec(profile, v.addresses[s.id], v.helper, mounts)
	if err != nil {
		return nil, err
	}
	spec.TTY = false
	home := filepath.Join(v.caller.paths.Homes(), homeName(v.caller.folder)) // of a project that ends with this run
	v.undo = append(v.undo, func(context.Context) error { return v.caller.removeFolder(home) },
		func(ctx context.Context) error { return v.engine.Remove(ctx, spec.Name) })
	id, err := s.createAgent(ctx, spec)
	if err != nil {
		return nil, err
	}
	c, err := v.converse(ctx, id)
	if err != nil {
		return nil, err
	}
	defer c.close()
	began := time.Now()
	results, err := verify.ReadProof(c.out)
	proof := battery.Answer{Probe: battery.StartProof, Finding: probe.Finding{Outcome: verify.StoppedInside, Detail: fmt.Sprintf("%d checks passed, each attempt recorded", len(results))}}
	if err := s.checkProof(ctx, proofResult{results, err}); err != nil {
		proof.Finding = probe.Reached("%v", err)
		return map[string]battery.Answer{battery.StartProof: proof}, ctx.Err()
	}
	proof.Seconds = time.Since(began).Seconds()
	if err := v.client.SetAgent(ctx, s.id, verifyAgent); err != nil {
		return nil, err
	}
	if _, err := io.WriteString(c.in, verify.GoAhead); err != nil {
		return nil, fmt.Errorf("let the probes go: %w", err)
	}
	answers, err := c.ask(request)
	if err == nil {
		answers[battery.StartProof] = proof
	}
	return answers, err
}

// conversation is what is said to a container and what it answers.
type conversation struct {
	in    *io.PipeWriter
	out   *bufio.Reader
	close func()
}

// converse attaches to a container and starts it.
func (v *verification) converse(ctx context.Context, id string) (*conversation, error) {
	inside, in := io.Pipe()
	out, answers := io.Pipe()
	attached, err := v.engine.Attach(ctx, id, containers.AttachOptions{In: inside, Out: answers, Err: v.options.stderr})
	if err != nil {
		return nil, err
	}
	ended := make(chan struct{})
	c := &conversation{in: in, out: bufio.NewReader(out)}
	c.close = func() {
		in.Close()
		out.Close()
		attached.Close()
		<-ended
	}
	if err := attached.Start(ctx); err != nil {
		attached.Close()
		return nil, err
	}
	go func() {
		answers.CloseWithError(attached.Wait())
		close(ended)
	}()
	return c, nil
}

// ask sends a request and reads the answers.
func (c *conversation) ask(request battery.Request) (map[string]battery.Answer, error) {
	line, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	if _, err := c.in.Write(append(line, '\n')); err != nil {
		return nil, fmt.Errorf("ask the probes: %w", err)
	}
	return battery.ReadAnswers(c.out, nil)
}
