package main

import (
	"context"
	"errors"
	"time"

	"github.com/sallyport/sallyport/tunnel"
)

// sshChecks are about the way to a GPU host. The first opens it for all others.
func sshChecks(ask bool) []check[*checkup] {
	limit := connectTime
	if ask {
		limit = askTime
	}
	return []check[*checkup]{
		{name: "settings", what: "ssh settings", run: (*checkup).checkSettings, limit: limit},
		{name: "reach", what: "whether it answers", needs: []string{"settings"}, run: (*checkup).checkReach},
		{name: "hostkey", what: "its host key", needs: []string{"reach"}, run: (*checkup).checkHostKey},
		{name: "login", what: "the login", needs: []string{"hostkey"}, run: (*checkup).checkLogin},
		{name: "shell", what: "commands there", needs: []string{"login"}, run: (*checkup).checkShell},
		{name: "latency", what: "how long it takes to answer", needs: []string{"shell"}, run: (*checkup).checkLatency},
		{name: "listen", what: "forwarding of sockets from there, for pulls", needs: []string{"shell"}, run: (*checkup).checkListen},
		{name: "dial", what: "forwarding of sockets to there, for models", needs: []string{"shell"}, run: (*checkup).checkDial},
	}
}

func (c *checkup) checkSettings(ctx context.Context) finding {
	if c.open(ctx); c.err == nil {
		return fine("%s", *c.site.ssh)
	}
	// Without a question: whoever was asked, was asked already.
	quiet := c.doctor.options.newSites(c.doctor.config, c.doctor.caller, false)
	host, err := quiet.sshHost(ctx, c.host)
	if err != nil {
		return failed(err)
	}
	return fine("%s", host)
}

// refusal says which step of a connection its error is about.
func refusal(err error) string {
	key, auth, unreachable := new(tunnel.HostKeyError), new(tunnel.AuthError), new(unreachableError)
	switch {
	case err == nil:
		return ""
	case errors.As(err, &key):
		return "hostkey"
	case errors.As(err, &auth):
		return "login"
	case errors.As(err, &unreachable), errors.Is(err, tunnel.ErrLinkDown), errors.Is(err, context.DeadlineExceeded), errors.Is(err, errTooLong):
		return "reach"
	}
	return "shell"
}

func (c *checkup) checkReach(context.Context) finding {
	if refusal(c.err) == "reach" {
		f := failed(c.err)
		f.Hints = append(f.Hints, "does it run, and is the address right? Try: ssh "+shellQuote([]string{c.ssh}))
		return f
	}
	return fine("answers")
}

func (c *checkup) checkHostKey(context.Context) finding {
	if refusal(c.err) == "hostkey" {
		return failed(c.err)
	}
	return fine("is the one that known_hosts has")
}

func (c *checkup) checkLogin(context.Context) finding {
	if refusal(c.err) == "login" {
		return failed(c.err)
	}
	return fine("accepted")
}

// slow is how long an answer may take before it is warned about: each request of
// an agent waits for it several times.
const slow = 500 * time.Millisecond

func (c *checkup) checkLatency(ctx context.Context) finding {
	const socket = "/nonexistent/sallyport.sock" // sshd answers without starting anything
	best := time.Duration(-1)
	for range 3 {
		began := time.Now()
		conn, err := c.site.Dial(ctx, "unix", socket)
		took := time.Since(began)
		if err == nil {
			conn.Close()
		} else if refused := new(tunnel.TargetError); !errors.As(err, &refused) || ctx.Err() != nil {
			return failed(err)
		}
		if best < 0 || took < best {
			best = took
		}
	}
	if best > slow {
		return warned("a wired network, or a nearer way", "%s for one answer is slow", best.Round(time.Millisecond))
	}
	return fine("%s for one answer", best.Round(10*time.Microsecond))
}

func (c *checkup) checkListen(ctx context.Context) finding {
	l := c.forwarding(ctx)
	if l.listen != nil {
		f := failed(l.listen)
		f.Hints = append(f.Hints, "without it, pulls need `pull: direct` (not recorded), and all else works")
		return f
	}
	return fine("it listens for us at %s", l.path)
}

func (c *checkup) checkDial(ctx context.Context) finding {
	l := c.forwarding(ctx)
	switch {
	case l.dial != nil:
		return failed(l.dial)
	case l.dialled == "":
		return skipped("there is no socket there to try it with")
	case l.listen == nil:
		return fine("bytes came round through %s", l.dialled)
	}
	return fine("%s answers", l.dialled)
}
