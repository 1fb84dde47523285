package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strings"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/config"
	"github.com/sallyport/sallyport/models"
	"github.com/sallyport/sallyport/tunnel"
)

// where asks where the GPU is.
func (v *interview) where(ctx context.Context) error {
	usual := localName
	for _, h := range v.config.Hosts { // of the file that is there
		usual = h.SSH
		break
	}
	return v.question(ctx, "1. Where is the GPU? local for this machine, or user@host or an alias of ~/.ssh/config", v.flags.host, usual, v.testWhere)
}

// testWhere opens the machine and looks at all that it needs.
func (v *interview) testWhere(ctx context.Context, answer string) error {
	v.said.host, v.said.ssh = "", ""
	if !strings.EqualFold(answer, localName) {
		if !config.IsDestination(answer) {
			return usage(fmt.Errorf("%q is no SSH destination; hint: user@host, user@host:port, or an alias of ~/.ssh/config; local is this machine", audit.Printable(answer)))
		}
		v.said.host, v.said.ssh = v.hostName(answer), answer
	}
	if v.flags.offline {
		return nil
	}
	v.close()
	v.sites, v.site = v.newSites(), nil
	c := &checkup{doctor: v.doctor(), host: v.said.host, ssh: v.said.ssh, title: titleOf(v.said.host)}
	table := append(openChecks(), initChecks()...)
	if c.host != "" {
		if err := v.login(ctx, c); err != nil {
			return err
		}
		table = append(sshChecks(v.ask != nil), initChecks()...)
	}
	if bad := v.run(ctx, c, table); bad || ctx.Err() != nil {
		return errors.Join(ctx.Err(), errShown)
	}
	v.site = c.site
	return nil
}

// initChecks are doctor's that matter before there is a model.
func initChecks() []check[*checkup] {
	var list []check[*checkup]
	for _, c := range serverChecks() {
		if c.name != "memory" && c.name != "disk" { // asked of the model, and of the folder
			list = append(list, c)
		}
	}
	return append(list, check[*checkup]{name: "program", what: "what serves a model", needs: []string{"runtime"}, run: (*checkup).checkProgram})
}

// checkProgram finds the servers that can be started without an engine.
func (c *checkup) checkProgram(ctx context.Context) finding {
	h, err := c.site.host(ctx)
	if err != nil || h.engine != nil {
		return skipped("it is in the container's image")
	}
	var found []string
	for _, e := range []models.Engine{models.VLLM, models.LlamaCPP} {
		if path := c.site.facts.Commands[programOf(models.Profile{Engine: e})]; path != "" {
			found = append(found, path)
		}
	}
	if len(found) == 0 {
		_, err := c.site.command(models.Profile{Engine: models.VLLM}, h)
		f := failed(err)
		f.Text = "neither vllm nor llama-server is in the PATH of the login, and there is no engine that could run one"
		return f
	}
	return fine("%s", strings.Join(found, ", "))
}

// run runs a table of checks and shows what each finds. The checks are told of on
// one line that is rewritten.
func (v *interview) run(ctx context.Context, c *checkup, table []check[*checkup]) (bad bool) {
	m := v.meter()
	for _, f := range examine(ctx, c.title, table, c, func(what string) { m.show(what, what, -1, 0, -1) }) {
		m.end()
		if f.Because != "" {
			continue // that has failed, and was shown
		}
		bad = v.show(f.Check, f) || bad
	}
	return bad
}

// meter shows what is tested, where that can be taken away again.
func (v *interview) meter() *meter {
	m := v.options.newProgress().meter("testing")
	m.quiet = m.quiet || m.width == nil
	return m
}

// doctor is what runs the checks.
func (v *interview) doctor() *doctor {
	return &doctor{options: v.options, caller: v.caller, config: v.sites.config, sites: v.sites, ask: v.ask != nil}
}

// newSites knows the machine that was named, besides what is configured.
func (v *interview) newSites() *sites {
	cfg := *v.config
	cfg.Models = nil
	cfg.Hosts = nil
	if v.said.host != "" {
		cfg.Hosts = []config.Host{{Name: v.said.host, SSH: v.said.ssh, Machine: config.Machine{Runtime: config.RuntimeAuto}}}
	}
	return v.options.newSites(&cfg, v.caller, v.ask != nil)
}

var unusable = regexp.MustCompile(`[^A-Za-z0-9._-]+`)

// hostName is how the configuration calls a host: the first part of its name, or
// the name that the file that is there has for it.
func (v *interview) hostName(ssh string) string {
	for _, h := range v.config.Hosts {
		if h.SSH == ssh {
			return h.Name
		}
	}
	name := strings.TrimPrefix(ssh, "ssh://")
	name = name[strings.LastIndexByte(name, '@')+1:]
	if at, err := netip.ParseAddrPort(name); err == nil {
		name = at.Addr().String()
	}
	if _, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil {
		return "gpu"
	}
	name, _, _ = strings.Cut(name, ":")
	name, _, _ = strings.Cut(name, ".")
	name = strings.Trim(unusable.ReplaceAllString(name, "-"), "._-")
	if name == "" || len(name) > 64 || strings.EqualFold(name, localName) || strings.EqualFold(name, "localhost") {
		return "gpu"
	}
	return name
}

// login opens the host, and helps with a host key that is not known.
func (v *interview) login(ctx context.Context, c *checkup) error {
	for {
		v.say("  trying ssh %s", audit.Printable(c.ssh)) // a line of its own: a passphrase may be asked for
		limit := connectTime
		if v.ask != nil {
			limit = askTime
		}
		bounded, cancel := context.WithTimeoutCause(ctx, limit, errTooLong)
		c.open(bounded)
		cancel()
		key := new(tunnel.HostKeyError)
		if !errors.As(c.err, &key) || key.Problem != tunnel.HostKeyUnknown || v.ask == nil || key.Entry == "" {
			return ctx.Err() // the checks say what is wrong
		}
		v.show("hostkey", failed(key))
		added, err := v.offerKey(ctx, key)
		if err != nil {
			return err
		}
		if !added {
			return errShown
		}
		v.close()
		v.sites = v.newSites()
		c.doctor, c.err = v.doctor(), nil
	}
}

// offerKey adds a host's key to known_hosts, if the user has compared it.
func (v *interview) offerKey(ctx context.Context, key *tunnel.HostKeyError) (added bool, err error) {
	v.say("  Compare the fingerprint above with what the host's owner says. Only then type yes, or the whole fingerprint:")
	v.say("  this key is then added to %s. Anything else adds nothing.", audit.Printable(key.File))
	answer, err := v.ask.line(ctx, "  I compared it: ")
	if err != nil {
		return false, err
	}
	if answer = strings.TrimSpace(answer); answer != "yes" && answer != key.Fingerprint {
		v.say("  nothing was added")
		return false, nil
	}
	if err := addKnownHost(key.File, key.Entry); err != nil {
		return false, err
	}
	v.say("  added to %s", audit.Printable(key.File))
	return true, nil
}
