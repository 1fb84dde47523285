package policy

import (
	"cmp"
	"slices"
	"strings"
)

// names are those that rules are about, with the ports that each allows. One map
// of them makes a look-up cost the same however many rules there are.
type names struct {
	first  map[string]first
	more   [][]grant // what first has no room for, by port
	depths uint64    // bit n is set if a name has n labels; the last bit: 63 or more
}

// first is what the first rule for a name allows. Two ports, of most rules all, are
// in the map itself: among many rules each place to look at is one to wait for.
type first struct {
	ports [2]uint16 // zero: none
	rule  uint32    // its place in the list given to New
	more  uint32    // place in names.more, plus one; zero: there is no more
}

// grant is what allows a port of a name.
type grant struct {
	port uint16
	rule uint32
}

func byPort(g grant, port uint16) int { return cmp.Compare(g.port, port) }

// add adds a rule. Of a port that an earlier one allows, that one stays.
func (n *names) add(name string, ports []uint16, rule int) {
	if n.first == nil {
		n.first = map[string]first{}
	}
	f, there := n.first[name]
	if !there {
		f.rule = uint32(rule)
		f.ports[0] = ports[0]
		if len(ports) > 1 {
			f.ports[1] = ports[1]
		}
	}
	for _, port := range ports {
		if f.ports[0] == port || f.ports[1] == port {
			continue
		}
		if f.more == 0 {
			n.more = append(n.more, nil)
			f.more = uint32(len(n.more))
		}
		grants := &n.more[f.more-1]
		if i, there := slices.BinarySearchFunc(*grants, port, byPort); !there {
			*grants = slices.Insert(*grants, i, grant{port: port, rule: uint32(rule)})
		}
	}
	n.first[name] = f
	n.depths |= depthBit(labels(name))
}

// find returns the rule that allows port of name, which has so many labels.
func (n *names) find(name string, labels int, port uint16) (rule uint32, ok bool) {
	if n.depths&depthBit(labels) == 0 {
		return 0, false // no name is so long: it need not be looked for
	}
	f, ok := n.first[name]
	switch {
	case !ok || port == 0:
		return 0, false
	case f.ports[0] == port || f.ports[1] == port:
		return f.rule, true
	case f.more == 0:
		return 0, false
	}
	grants := n.more[f.more-1]
	i, ok := slices.BinarySearchFunc(grants, port, byPort)
	if !ok {
		return 0, false
	}
	return grants[i].rule, true
}

func depthBit(labels int) uint64 { return 1 << min(labels, 63) }

// labels is how many labels a name has.
func labels(name string) int { return strings.Count(name, ".") + 1 }
