package proxy

import (
	"bytes"
	"errors"
	"fmt"
)

// Limits of a request body beside its length.
const (
	maxDepth  = 72   // 64 within a tool's input or schema, and the message around it
	maxKeys   = 4096 // of one object
	maxNumber = 100  // bytes of one number
	fewKeys   = 16   // up to here duplicates are found by comparing
)

var (
	errJSONEnd    = errors.New("the JSON ends too early")
	errJSONDepth  = fmt.Errorf("the JSON is nested deeper than %d", maxDepth)
	errJSONKeys   = fmt.Errorf("an object with more than %d keys", maxKeys)
	errJSONString = errors.New("a string with a control character or broken UTF-8")
	errJSONNumber = errors.New("a malformed number")
	errJSONEscape = errors.New("a malformed escape in a string")
	errJSONRest   = errors.New("something follows the JSON value")
)

// normalize reads one JSON value strictly and writes it anew: no space, one
// spelling for each string, keys in their order, numbers as they were. What two
// parsers could read differently is an error: duplicate keys (by what they mean,
// not by spelling), broken UTF-8, a second value. Lone surrogates, which
// JavaScript makes when it cuts a string, become U+FFFD. Checks are made on the
// result, and the result is what is sent on.
func normalize(in []byte) ([]byte, error) {
	n := normalizer{in: in, out: make([]byte, 0, len(in))}
	if err := n.value(); err != nil {
		return nil, fmt.Errorf("%w (at byte %d)", err, n.pos)
	}
	n.space()
	if n.pos < len(n.in) {
		return nil, fmt.Errorf("%w (at byte %d)", errJSONRest, n.pos)
	}
	return n.out, nil
}

type normalizer struct {
	in, out []byte
	pos     int
	depth   int
	keys    [][2]int // extents in out of the keys of all open objects
}

func (n *normalizer) space() {
	for n.pos < len(n.in) {
		switch n.in[n.pos] {
		case ' ', '\t', '\n', '\r':
			n.pos++
		default:
			return
		}
	}
}

// peek skips space and returns the next byte, 0 at the end.
func (n *normalizer) peek() byte {
	n.space()
	if n.pos == len(n.in) {
		return 0
	}
	return n.in[n.pos]
}

func (n *normalizer) value() error {
	switch c := n.peek(); {
	case c == '{':
		return n.nested('}')
	case c == '[':
		return n.nested(']')
	case c == '"':
		return n.str()
	case c == '-' || c >= '0' && c <= '9':
		return n.number()
	case c == 0 && n.pos == len(n.in):
		return errJSONEnd
	}
	for _, word := range []string{"true", "false", "null"} {
		if bytes.HasPrefix(n.in[n.pos:], []byte(word)) {
			n.pos += len(word)
			n.out = append(n.out, word...)
			return nil
		}
	}
	return fmt.Errorf("%q where a JSON value should be", n.in[n.pos:n.pos+1])
}

// nested reads the items of an object or array up to its closing byte.
func (n *normalizer) nested(last byte) error {
	if n.depth++; n.depth > maxDepth {
		return errJSONDepth
	}
	seen := keySet{base: len(n.keys)}
	n.out = append(n.out, n.in[n.pos])
	n.pos++
	for first := true; ; first = false {
		c := n.peek()
		if c == last && first {
			break
		}
		if err := n.item(last, &seen); err != nil {
			return err
		}
		if c = n.peek(); c == last {
			break
		}
		if c != ',' {
			return n.unexpected("a comma")
		}
		n.pos++
		n.out = append(n.out, ',')
	}
	n.out = append(n.out, last)
	n.pos++
	n.depth--
	n.keys = n.keys[:seen.base]
	return nil
}

func (n *normalizer) item(last byte, seen *keySet) error {
	if last == '}' {
		return n.member(seen)
	}
	return n.value()
}

func (n *normalizer) unexpected(want string) error {
	if n.pos == len(n.in) {
		return errJSONEnd
	}
	return fmt.Errorf("%q where %s should be", n.in[n.pos:n.pos+1], want)
}

func (n *normalizer) member(seen *keySet) error {
	if n.peek() != '"' {
		return n.unexpected("a key")
	}
	start := len(n.out)
	if err := n.str(); err != nil {
		return err
	}
	n.keys = append(n.keys, [2]int{start, len(n.out)})
	if err := seen.add(n.out, n.keys); err != nil {
		return err
	}
	if n.peek() != ':' {
		return n.unexpected("a colon")
	}
	n.pos++
	n.out = append(n.out, ':')
	return n.value()
}

// keySet knows the keys of one object. A set is made only where comparing each
// with each would be slow.
type keySet struct {
	base int // where the object's keys start in normalizer.keys
	set  map[string]struct{}
}

// add takes the last of keys, which are extents in out.
func (s *keySet) add(out []byte, keys [][2]int) error {
	keys = keys[s.base:]
	last := len(keys) - 1
	key := out[keys[last][0]:keys[last][1]]
	if last >= maxKeys {
		return errJSONKeys
	}
	if last < fewKeys {
		for _, k := range keys[:last] {
			if bytes.Equal(out[k[0]:k[1]], key) {
				return duplicate(key)
			}
		}
		return nil
	}
	if s.set == nil {
		s.set = make(map[string]struct{}, 4*fewKeys)
		for _, k := range keys[:last] {
			s.set[string(out[k[0]:k[1]])] = struct{}{}
		}
	}
	if _, ok := s.set[string(key)]; ok {
		return duplicate(key)
	}
	s.set[string(key)] = struct{}{}
	return nil
}

func duplicate(key []byte) error {
	return fmt.Errorf("the key %s twice in one object", bound(string(key), 80))
}
