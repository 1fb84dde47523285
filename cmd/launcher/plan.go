package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/config"
	"github.com/sallyport/sallyport/models/hub"
	"github.com/sallyport/sallyport/models/server"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/sandbox"
)

// plan is what --dry-run prints: a step with what is done, and its command.
type plan struct{ w io.Writer }

func (o *options) plan() plan { return plan{o.stdout} }

func (p plan) step(format string, args ...any) {
	fmt.Fprintf(p.w, "# %s\n", printable(fmt.Sprintf(format, args...)))
}

// command prints a command line, if it is not one already.
func (p plan) command(text string) {
	fmt.Fprintf(p.w, "%s\n", printable(strings.TrimRight(text, "\n")))
}

func (p plan) words(words ...string) { p.command(shellQuote(words)) }

// shellQuote writes words as a POSIX shell reads them.
func shellQuote(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		if w != "" && !strings.ContainsFunc(w, special) {
			quoted[i] = w
			continue
		}
		quoted[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
	}
	return strings.Join(quoted, " ")
}

func special(r rune) bool {
	plain := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:=,@%+", r)
	return !plain
}

// dryServe prints what serve would do.
func (a *modelCommand) dryServe(ctx context.Context) error {
	v, err := a.served(ctx)
	if err != nil {
		return err
	}
	return v.planServe(ctx, a.options.plan())
}

// planServe prints what it takes to have the server ready.
func (v *served) planServe(ctx context.Context, p plan) error {
	status, err := v.Status(ctx)
	if err != nil {
		return err
	}
	switch status.State {
	case server.Ready:
		p.step("%s is ready on %s%s: nothing to do", v.model.Name, v.site.title(), startedBy(status))
		return nil
	case server.Starting:
		p.step("%s is starting on %s%s: wait until it is ready", v.model.Name, v.site.title(), startedBy(status))
		return nil
	}
	if err := v.dead(ctx, status); err != nil {
		p.step("it would fail here: %v", err)
		return nil
	}
	found, err := v.find(ctx)
	if err != nil {
		return err
	}
	if !found.Complete {
		p.step("it would fail here: %v", v.noWeights(found))
	}
	launch, err := v.launch(found)
	if err != nil {
		return err
	}
	binary, err := v.onMachine()
	if err != nil {
		return err
	}
	p.step("put our binary on %s at %s, unless it is there", v.site.title(), binary)
	if engine := v.hosting.engine; engine != nil {
		there, err := engine.ImageExists(ctx, launch.Image)
		if err != nil {
			return err
		}
		if !there {
			p.step("on %s, with its own network", v.site.title())
			p.words(v.hosting.info.Kind, "pull", launch.Image)
		}
	}
	p.step("on %s, in %s, without a network", v.site.title(), v.hosting)
	p.command(launch.String())
	p.step("wait until GET /health over %s says 200", launch.Socket)
	return nil
}

// planLogs prints where a log is read.
func (o *options) planLogs(v *served, follow bool, lines int) error {
	o.plan().step("read %d lines of the log of %s on %s, in %s, and follow it: %t", lines, v.model.Name, v.site.title(), v.hosting, follow)
	return nil
}

// planStop prints what stop does to sandboxes.
func (o *options) planStop(s *sites, ids []string, r stopRequest) error {
	p := o.plan()
	for _, id := range ids {
		p.step("end the agent, the registration and the holder of sandbox %s…", id)
	}
	if r.all {
		p.step("end all sandboxes of uid %d, the wall and the gateway", s.caller.uid)
		p.words("gateway", "down", "--force")
		for _, m := range s.ours() {
			if r.models {
				p.step("end the server of %s, where it runs", m.Name)
			}
		}
	}
	return nil
}

// planPull prints what pull would do.
func (v *served) planPull(found hub.Found, rules []policy.Rule, p plan) {
	w := v.model.Weights()
	if found.Complete {
		p.step("the weights of %s are on %s, in %s: nothing to do", v.model.Name, v.site.title(), v.site.weights())
		return
	}
	p.step("download %s at %s to %s on %s, in %s (%s there of %d GB)", w.Repo, orMain(w.Revision), v.site.weights(), v.site.title(), v.hosting, gigabytes(found.HaveBytes), w.GB)
	if v.model.pull == config.PullDirect {
		p.step("with that machine's own network, NOT recorded (pull: direct)")
		return
	}
	p.step("the only way out: this machine's gateway, recorded, to these hosts alone")
	for _, rule := range rules {
		p.command(fmt.Sprintf("  %s:%d  (%s)", rule.Host, rule.Ports[0], rule.Why))
	}
}

// planSession prints what a session would do.
func (s *session) planSession(ctx context.Context) error {
	p := s.options.plan()
	if _, err := s.projectMounts(); err != nil {
		return err
	}
	status, err := s.client.Status(ctx)
	switch {
	case err == nil:
		p.step("the gateway runs, pid %d", status.PID)
	default:
		p.step("start the gateway in the background")
		p.words(append([]string{s.binary}, s.gatewayArgs()...)...)
	}
	p.step("start the wall, unless it runs: a container without a network")
	p.words("docker", "run", "--detach", "--network", "none", "--cap-drop", "ALL", "--cap-add", "NET_ADMIN", "--name", "sallyport-wall-"+strconv.Itoa(s.caller.uid),
		"--volume", s.wallBind().Source+":"+s.wallBind().Target, "sallyport-helper", "wall")
	if err := s.planModel(ctx, p); err != nil {
		return err
	}
	profile, err := s.profile(sandbox.Addresses{})
	if err != nil {
		return err
	}
	p.step("start sandbox %s: its holder, and in the holder's network the agent, which shows that it is closed before it runs", s.id)
	p.words("docker", "run", "--detach", "--network", "none", "--cap-drop", "ALL", "--cap-add", "NET_ADMIN", "--name", "sallyport-holder-"+s.id, "sallyport-helper", "hold")
	p.words(s.agentWords(profile.Command)...)
	return nil
}

// agentWords are the agent's container as a command line, as far as it is known
// before the sandbox has its addresses.
func (s *session) agentWords(command []string) []string {
	image := s.request.image
	if image == "" {
		image = "sallyport-agent"
	}
	words := []string{"docker", "run", "--rm", "--network", "container:sallyport-holder-" + s.id, "--name", "sallyport-agent-" + s.id,
		"--user", fmt.Sprintf("%d:%d", s.caller.uid, s.caller.gid), "--cap-drop", "ALL", "--security-opt", "no-new-privileges",
		"--memory", strconv.FormatInt(int64(s.config.Agent.Memory)>>20, 10) + "m", "--pids-limit", strconv.FormatInt(s.config.Agent.Pids, 10),
		"--volume", s.caller.folder + ":" + s.caller.folder, "--workdir", s.caller.folder}
	return append(append(words, image), command...)
}

// planModel prints what it takes to have the model.
func (s *session) planModel(ctx context.Context, p plan) error {
	defer s.sites.closeAll()
	switch {
	case s.model.StandIn():
		p.step("start the stand-in model, which ends with the session: a container without a network")
		p.words("docker", "run", "--detach", "--network", "none", "--cap-drop", "ALL", "--name", "sallyport-demo-"+s.id, "sallyport-helper", "demo-model")
		return nil
	case !s.model.ours():
		p.step("the model's server is somebody else's, at %s: ask whether it answers", s.model.Upstream)
		return nil
	}
	c := s.choose(ctx)
	if c.best() == nil {
		return errors.Join(c.lost...)
	}
	for _, err := range c.lost {
		p.step("%s", audit.Printable(err.Error()))
	}
	return c.best().planServe(ctx, p)
}
