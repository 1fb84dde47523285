package server

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Other is another server on the same machine.
type Other struct {
	Name    string
	Memory  int64 // bytes; zero: unknown
	Running int   // requests that it works on; below zero: unknown
}

// Beside says what to stop so that a server that needs some bytes of memory fits
// beside others: one that is enough by itself, the idle and the small first, or
// the fewest that are. Empty: it fits, or need is unknown (zero).
func Beside(others []Other, need, available int64) string {
	if need <= 0 || need <= available {
		return ""
	}
	short := need - available
	amounts := fmt.Sprintf("it needs about %s, %s is free", gigabytes(need), gigabytes(max(0, available)))
	if len(others) == 0 {
		return amounts + ", and no other model runs there: take a smaller one"
	}
	stop, freed := enough(others, short)
	switch {
	case stop != nil:
		return fmt.Sprintf("%s: %s frees about %s", amounts, stopAll(stop), gigabytes(freed))
	case slices.ContainsFunc(others, func(o Other) bool { return o.Memory <= 0 }):
		return fmt.Sprintf("%s: %s (what they use is not known)", amounts, stopAll(others))
	}
	return fmt.Sprintf("%s; stopping all others would not be enough (%s): take a smaller model", amounts, gigabytes(freed))
}

// enough chooses which to stop; nil, and what all would free, if all of them are
// too little.
func enough(others []Other, short int64) (stop []Other, freed int64) {
	byUse := slices.SortedFunc(slices.Values(others), func(a, b Other) int {
		return cmp.Or(cmp.Compare(max(0, a.Running), max(0, b.Running)), cmp.Compare(a.Memory, b.Memory), cmp.Compare(a.Name, b.Name))
	})
	for _, o := range byUse {
		if o.Memory >= short {
			return []Other{o}, o.Memory
		}
	}
	bySize := slices.SortedFunc(slices.Values(others), func(a, b Other) int {
		return cmp.Or(cmp.Compare(b.Memory, a.Memory), cmp.Compare(a.Name, b.Name))
	})
	for i, o := range bySize {
		if freed += o.Memory; freed >= short {
			return bySize[:i+1], freed
		}
	}
	return nil, freed
}

// stopAll is the command that stops them.
func stopAll(others []Other) string {
	names := make([]string, len(others))
	for i, o := range others {
		names[i] = printable(o.Name, maxName)
	}
	return "`launcher stop " + strings.Join(names, " ") + "`"
}

// gigabytes is how a size is written: 1 GB is 10⁹ bytes.
func gigabytes(n int64) string {
	if n < 10e9 {
		return fmt.Sprintf("%.1f GB", float64(n)/1e9)
	}
	return fmt.Sprintf("%.0f GB", float64(n)/1e9)
}
