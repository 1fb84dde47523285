package verify

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// quickDeadline bounds each check of Quick; they run side by side.
const quickDeadline = time.Second

// QuickSpec says how the sandbox should look from inside.
type QuickSpec struct {
	Gateway4  netip.Addr // the wall's end of the wire; required
	Gateway6  netip.Addr // the same for IPv6; invalid: the host has no IPv6, and there may be no route
	ModelPort uint16     // of the model endpoint at Gateway4; required
	ProxyPort uint16     // of the forward proxy at Gateway4; required
	AllowRoot bool       // an image of the user's own may run as root; capabilities are refused all the same
	Forbidden []string   // paths that may not be mounted here, e.g. the control socket's folder
	Root      fs.FS      // what to read /proc and /etc from, os.DirFS("/"); required
}

// Result is one check's outcome. The zero Result is a failure.
type Result struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"` // what was found
}

// check is one line of the proof. It returns what it found, and an error if that
// is not what it should be.
type check struct {
	name string
	run  func(ctx context.Context, s QuickSpec) (string, error)
}

// checks is the start-up proof: what is looked at, then what is tried.
var checks = []check{
	{"only lo and eth0 exist", checkLinks},
	{"every route leads to the gateway", checkRoutes},
	{"no capability and no way to gain one", checkPrivileges},
	{"only the gateway answers DNS", checkResolver},
	{"no engine or control socket is mounted", checkMounts},
	{"TCP to 203.0.113.1 is refused", tries("tcp", "203.0.113.1:9")},
	{"TCP to 2001:db8::1 is refused", tries6("tcp", "[2001:db8::1]:9")},
	{"UDP to 203.0.113.1 fails at once", tries("udp", "203.0.113.1:9")},
	{"DNS at 203.0.113.53 is the sinkhole", checkSinkhole},
	{"the model endpoint answers", checkModel},
	{"the proxy refuses proof.example", checkProxy},
}

// Quick is the proof that the way out is closed, made inside the agent's own
// container just before the agent starts. It takes about as long as the slowest
// check, at most a second; every check has a Result, in a fixed order. The agent
// may start only if Passed.
func Quick(ctx context.Context, s QuickSpec) []Result {
	results := make([]Result, len(checks))
	if s.Root == nil || !s.Gateway4.IsValid() || s.ModelPort == 0 || s.ProxyPort == 0 {
		for i, c := range checks {
			results[i] = Result{Name: c.name, Detail: "not checked: QuickSpec is incomplete"}
		}
		return results
	}
	var wait sync.WaitGroup
	for i, c := range checks {
		wait.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, quickDeadline)
			defer cancel()
			detail, err := c.run(ctx, s)
			results[i] = Result{Name: c.name, OK: err == nil, Detail: detail}
			if err != nil {
				results[i].Detail = err.Error()
			}
		})
	}
	wait.Wait()
	return results
}

// Passed says that every check was made and passed.
func Passed(results []Result) bool {
	for _, r := range results {
		if !r.OK {
			return false
		}
	}
	return len(results) == len(checks)
}

// tries makes an attempt that must be refused, and not by silence.
func tries(kind, target string) func(context.Context, QuickSpec) (string, error) {
	return func(ctx context.Context, _ QuickSpec) (string, error) {
		r := probe(ctx, Attempt{Kind: kind, Target: target}, quickDeadline)
		if !r.Outcome.Closed() {
			return "", errors.New(r.String())
		}
		if r.Seconds > 0.9*quickDeadline.Seconds() {
			return "", fmt.Errorf("%s; that is refused, but not at once", r)
		}
		return r.String(), nil
	}
}

// tries6 is tries where the sandbox has IPv6.
func tries6(kind, target string) func(context.Context, QuickSpec) (string, error) {
	return func(ctx context.Context, s QuickSpec) (string, error) {
		detail, err := tries(kind, target)(ctx, s)
		if err == nil && !s.Gateway6.IsValid() {
			detail += " (this host has no IPv6)"
		}
		return detail, err
	}
}

// checkSinkhole wants an answer, not a failure: nobody but the wall has that
// address, so the answer shows where DNS ends.
func checkSinkhole(ctx context.Context, _ QuickSpec) (string, error) {
	answer, err := exchange(ctx, Attempt{Kind: "dns", Target: "proof.example", Via: "203.0.113.53:53"})
	if err != nil {
		return "", err
	}
	if answer.RCode != dnsmessage.RCodeNameError || len(answer.Answers) > 0 || !blockedByUs(answer) {
		return "", fmt.Errorf("proof.example got %s and %d records", rcode(answer), len(answer.Answers))
	}
	return "NXDOMAIN, extended error 15 (blocked)", nil
}

func checkProxy(ctx context.Context, s QuickSpec) (string, error) {
	status, code, err := connect(ctx, Attempt{Kind: "connect", Target: "proof.example:443", Via: netip.AddrPortFrom(s.Gateway4, s.ProxyPort).String()})
	if err != nil {
		return "", err
	}
	if code != http.StatusForbidden {
		return "", fmt.Errorf("the proxy answered %q", status)
	}
	return status, nil
}
