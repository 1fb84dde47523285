package web

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/audit"
)

// manyNames is how many names below one other are shown as one entry: data that
// is carried out in DNS queries has a new name each time, and would hide the rest.
const manyNames = 3

// parent is the name above a host; empty: there is none that says anything.
func parent(host string) string {
	if _, err := netip.ParseAddr(host); err == nil {
		return ""
	}
	_, above, _ := strings.Cut(host, ".")
	if strings.Count(above, ".") < 2 { // "example.org" is too much to stand for one thing
		return ""
	}
	return above
}

// gather makes one group "*.NAME" of those whose names lie just below NAME, where
// they are many; its Events is how many names they are. The most attempts come
// first.
func gather(groups []audit.Group) []audit.Group {
	below := map[string]int{}
	for _, g := range groups {
		below[parent(g.Key)]++
	}
	at := map[string]int{}
	var all []audit.Group
	for _, g := range groups {
		above := parent(g.Key)
		if above == "" || below[above] < manyNames {
			all = append(all, g)
			continue
		}
		i, found := at[above]
		if !found {
			i = len(all)
			at[above] = i
			all = append(all, audit.Group{Key: "*." + above})
		}
		all[i].Events++
		all[i].Attempts += g.Attempts
	}
	slices.SortStableFunc(all, func(a, b audit.Group) int { return cmp.Compare(b.Attempts, a.Attempts) })
	return all
}
