//go:build lab

package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/lab"
	"github.com/sallyport/sallyport/verify/battery"
)

// batteryLimit bounds one run of the battery, which takes a minute at most.
const batteryLimit = 6 * time.Minute

// notApplicable lists what works nowhere in the lab, with its errno, or cannot be
// tried there. What is not in it must be shown.
const notApplicable = "testdata/not-applicable.txt"

// TestVerify is what `make verify` runs: the whole battery on both engines, with a
// rule whose names lead to private addresses.
func TestVerify(t *testing.T) {
	allowed, err := os.ReadFile(notApplicable)
	if err != nil {
		t.Fatal(err)
	}
	onBoth(t, func(t *testing.T, l *lab.Lab) {
		u := setUpVerify(t, l)
		before := l.Before(t)
		report, out := u.verify("gateway", "--rebinding", strings.Join(lab.Rebinds(), ","))
		if err := report.Write(os.Stdout, 0, nil); err != nil {
			t.Error(err)
		}
		if !report.OK() || len(report.Runs) != 2 {
			t.Errorf("not all is closed, recorded and shown\n%s", out)
		}
		lines := strings.Split(string(allowed), "\n")
		for _, run := range report.Runs {
			for _, r := range run.Results {
				if line := strings.TrimSpace(r.Name + " " + r.Errno); r.Verdict == battery.NotApplicable && !slices.Contains(lines, line) {
					t.Errorf("as %s: %q is not applicable, and not in %s: %s", run.User, line, notApplicable, r.How)
				}
			}
		}
		l.NoLeak(t, before)
	})
}

// A named address is aimed at: an ordinary container reaches it, a sandbox does not.
func TestVerifyAnAddress(t *testing.T) {
	u := setUpVerify(t, shared.Get(t, lab.Engine28))
	report, out := u.verify("gateway", "--only", "icmp-echo", "--as", "root", "--address", lab.Web, "--address6", lab.Web6)
	if !report.OK() || len(report.Runs) != 1 || report.Runs[0].Counts.Recorded != 1 {
		t.Fatalf("%s", out)
	}
	if r := report.Runs[0].Results[0]; r.Control != "ordinary container" {
		t.Errorf("%s: shown in %q", r.Name, r.Control)
	}
	events := u.events(report.Runs[0].Sandbox)
	if !slices.ContainsFunc(events, func(e audit.Event) bool { return e.Dst == lab.Web && e.Proto == "icmp" }) {
		t.Errorf("it aimed elsewhere: %+v", events)
	}
}

// setUpVerify is setUp with time for the battery and a rule for names that rebind.
func setUpVerify(t *testing.T, l *lab.Lab) *user {
	t.Helper()
	u := setUp(t, l, "unix:///run/models/none.sock")
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), batteryLimit)
	t.Cleanup(cancel)
	u.ctx = ctx
	path := filepath.Join(l.Laptop.Home, ".config/sallyport/config.yaml")
	config, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	u.write(path, strings.NewReplacer(`"*.example.org"`, `"*.rebind.example"`, "ports: [443] ", "ports: [80, 443] ").Replace(string(config)))
	return u
}

// verify runs the battery with a gateway, and reads what it reports. A battery that
// could not be run is the zero report.
func (u *user) verify(gateway string, args ...string) (report battery.Report, said string) {
	u.Helper()
	c := u.command(gateway, append([]string{"verify", "--json"}, args...)...)
	var stderr strings.Builder
	c.Stderr = &stderr
	out, err := c.Output()
	said = fmt.Sprintf("%v\n%s%s", err, out, &stderr)
	if json.Unmarshal(out, &report) != nil {
		return battery.Report{}, said
	}
	return report, said
}
