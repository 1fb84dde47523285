package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"github.com/sallyport/sallyport/terminal"
	"github.com/sallyport/sallyport/verify/battery"
	"github.com/sallyport/sallyport/verify/probe"
	"github.com/spf13/cobra"
)

// The users that the battery runs as.
const (
	asAgent = "agent"
	asRoot  = "root"
)

// verifyOptions are the flags of verify.
type verifyOptions struct {
	json      bool
	list      bool
	only      []string
	as        []string
	address   string
	address6  string
	rebinding []string

	public4, public6 netip.Addr // address and address6, read
}

// newVerifyCommand is what `gateway verify` runs: to start containers is the
// launcher's part.
func newVerifyCommand(o *options) *cobra.Command {
	var v verifyOptions
	c := &cobra.Command{
		Use:    "verify",
		Short:  "Try every known way out of a sandbox (run it as gateway verify)",
		Args:   noArgs,
		Hidden: true,
		RunE: func(c *cobra.Command, _ []string) error {
			probes, err := v.read()
			if err != nil {
				return usage(err)
			}
			if v.list {
				return o.listProbes(probes, v.json)
			}
			return o.runVerify(c.Context(), v, probes)
		},
	}
	flags := c.Flags()
	flags.BoolVar(&v.json, "json", false, "print JSON")
	flags.BoolVar(&v.list, "list", false, "print the probes and why they matter, and run none")
	flags.StringSliceVar(&v.only, "only", nil, "only probes whose name or group matches one of these `globs`")
	flags.StringSliceVar(&v.as, "as", []string{asAgent, asRoot}, "run as `user`: agent, root or both")
	flags.StringVar(&v.address, "address", "", "IPv4 `address` to aim at in place of a listener of verify's own")
	flags.StringVar(&v.address6, "address6", "", "the same for IPv6")
	flags.StringSliceVar(&v.rebinding, "rebinding", nil, "`names` that your rules allow and that resolve to private addresses")
	return c
}

// read checks the flags and returns the probes to run.
func (v *verifyOptions) read() ([]probe.Probe, error) {
	for _, as := range v.as {
		if as != asAgent && as != asRoot {
			return nil, fmt.Errorf("--as %q: agent or root", as)
		}
	}
	if len(v.as) == 0 {
		return nil, errors.New("--as names nobody: agent or root")
	}
	slices.Sort(v.as)
	v.as = slices.Compact(v.as)
	for _, a := range []struct {
		flag, text string
		six        bool
		addr       *netip.Addr
	}{{"--address", v.address, false, &v.public4}, {"--address6", v.address6, true, &v.public6}} {
		if a.text == "" {
			continue
		}
		addr, err := netip.ParseAddr(a.text)
		if err != nil || addr.Is4() == a.six {
			return nil, fmt.Errorf("%s %q is no address of that family", a.flag, a.text)
		}
		*a.addr = addr
	}
	return battery.Select(battery.All(), v.only)
}

func (o *options) listProbes(probes []probe.Probe, asJSON bool) error {
	results := battery.Judge(probes, battery.Evidence{})
	if asJSON {
		return battery.WriteList(o.stdout, results)
	}
	group := probe.Group("")
	for _, r := range results {
		if r.Group != group {
			group = r.Group
			fmt.Fprintln(o.stdout, group)
		}
		fmt.Fprintf(o.stdout, "  %-32s %s (%s)\n", r.Name, r.Why, r.Source)
	}
	return nil
}

// printReport prints it as it was asked for.
func (o *options) printReport(r battery.Report, asJSON bool) error {
	if asJSON {
		return r.WriteJSON(o.stdout)
	}
	width, mark := 0, func(_ battery.Verdict, word string) string { return word }
	if terminal.IsTerminal(o.stdout) {
		width = terminalWidth(o.stdout)
		if o.getenv("NO_COLOR") == "" {
			mark = coloured
		}
	}
	return r.Write(o.stdout, width, mark)
}

func terminalWidth(f *os.File) int {
	t, err := terminal.Open(f, f)
	if err != nil {
		return 0
	}
	size, err := t.Size()
	if err != nil {
		return 0
	}
	return int(size.Width)
}

func coloured(v battery.Verdict, word string) string {
	colour := map[battery.Verdict]string{battery.Recorded: "32", battery.StoppedInside: "32", battery.NotApplicable: "2", battery.Failed: "31;1", battery.NotProven: "33;1"}[v]
	return "\x1b[" + colour + "m" + word + "\x1b[0m"
}
