package policy

import (
	"cmp"
	"slices"
	"strings"
)

// names are those that rules are about, with the ports that each allows. One map
// of them makes a look-up cost the same however many rules there are.
type names struct {
	ports  map[string][]grant // by port
	depths uint64             // bit n is set if a name has n labels; the last bit: 63 or more
}

// grant is what allows a port of a name.
type grant struct {
	port uint16
	rule uint32 // its place in the list given to New
}

func byPort(g grant, port uint16) int { return cmp.Compare(g.port, port) }

// add adds a rule. Of a port that an earlier one allows, that one stays.
func (n *names) add(name string, ports []uint16, rule int) {
	if n.ports == nil {
		n.ports = map[string][]grant{}
	}
	grants := n.ports[name]
	for _, port := range ports {
		if i, there := slices.BinarySearchFunc(grants, port, byPort); !there {
			grants = slices.Insert(grants, i, grant{port: port, rule: uint32(rule)})
		}
	}
	n.ports[name] = grants
	n.depths |= depthBit(labels(name))
}

// find returns the rule that allows port of name, which has so many labels.
func (n *names) find(name string, labels int, port uint16) (rule uint32, ok bool) {
	if n.depths&depthBit(labels) == 0 {
		return 0, false // no name is so long: it need not be looked for
	}
	grants := n.ports[name]
	i, ok := slices.BinarySearchFunc(grants, port, byPort)
	if !ok {
		return 0, false
	}
	return grants[i].rule, true
}

func depthBit(labels int) uint64 { return 1 << min(labels, 63) }

// labels is how many labels a name has.
func labels(name string) int { return strings.Count(name, ".") + 1 }
