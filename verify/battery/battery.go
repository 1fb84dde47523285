// Package battery runs the probes of `gateway verify` and judges them: Run makes the
// attempts, in whatever container it is started in; Judge holds what came of them
// against the controls and the record. It starts no container and opens no record.
package battery

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/verify/addresses"
	"github.com/sallyport/sallyport/verify/endpoint"
	"github.com/sallyport/sallyport/verify/forward"
	"github.com/sallyport/sallyport/verify/host"
	"github.com/sallyport/sallyport/verify/inside"
	"github.com/sallyport/sallyport/verify/names"
	"github.com/sallyport/sallyport/verify/probe"
)

// Groups are the headings of the report, in its order.
var Groups = []probe.Group{probe.Addresses, probe.Host, probe.DNS, probe.Proxy, probe.Model, probe.Container}

// All returns every probe, by group.
func All() []probe.Probe {
	list := slices.Concat(addresses.Probes(), host.Probes(), names.Probes(), forward.Probes(), endpoint.Probes(), inside.Probes(), outside)
	slices.SortStableFunc(list, func(a, b probe.Probe) int {
		return slices.Index(Groups, a.Group) - slices.Index(Groups, b.Group)
	})
	return list
}

// Select returns the probes whose name or group matches one of the patterns, which
// are path.Match's; without patterns, all. A pattern that matches none is an error.
func Select(list []probe.Probe, patterns []string) ([]probe.Probe, error) {
	if len(patterns) == 0 {
		return list, nil
	}
	wanted := map[string]bool{}
	for _, pattern := range patterns {
		found := false
		for _, p := range list {
			byName, err := path.Match(pattern, p.Name)
			if err != nil {
				return nil, fmt.Errorf("--only %q: %w", pattern, err)
			}
			if byName || pattern == string(p.Group) {
				wanted[p.Name], found = true, true
			}
		}
		if !found {
			return nil, fmt.Errorf("--only %q matches no probe; hint: gateway verify --list", pattern)
		}
	}
	return slices.DeleteFunc(slices.Clone(list), func(p probe.Probe) bool { return !wanted[p.Name] }), nil
}

// Names returns the names of the probes that run in a container.
func Names(list []probe.Probe) []string {
	var names []string
	for _, p := range list {
		if p.Try != nil {
			names = append(names, p.Name)
		}
	}
	return names
}

// Has reports whether a probe of that name is in the list.
func Has(list []probe.Probe, name string) bool {
	_, ok := find(list, name)
	return ok
}

// Needs returns the capabilities that the probes need, each once.
func Needs(list []probe.Probe) []string {
	var all []string
	for _, p := range list {
		all = append(all, p.Needs...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// find returns the probe of that name.
func find(list []probe.Probe, name string) (probe.Probe, bool) {
	i := slices.IndexFunc(list, func(p probe.Probe) bool { return p.Name == name })
	if i < 0 {
		return probe.Probe{}, false
	}
	return list[i], true
}

// oneLine makes text from a container fit for one line of a report.
func oneLine(s string) string {
	return strings.Join(strings.Fields(s), " ")
}
