package proxy

import (
	"bytes"
	"encoding/json"
	"iter"
)

// The functions here walk JSON that normalize wrote, and nothing else: it is
// valid and holds no space. Slices that they give share b's array.

// extent returns the length of the value at the start of b.
func extent(b []byte) int {
	switch b[0] {
	case '"':
		return stringExtent(b)
	case '{', '[':
		depth := 0
		for i := 0; ; {
			switch b[i] {
			case '"':
				i += stringExtent(b[i:])
				continue
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
			i++
		}
	default:
		if i := bytes.IndexAny(b[:min(len(b), maxNumber+1)], ",]}"); i >= 0 {
			return i
		}
		return len(b)
	}
}

// stringExtent returns the length of the string at the start of b, quotes
// included.
func stringExtent(b []byte) int {
	for i := 1; ; i++ {
		i += bytes.IndexByte(b[i:], '"')
		slashes := 0
		for b[i-1-slashes] == '\\' {
			slashes++
		}
		if slashes%2 == 0 {
			return i + 1
		}
	}
}

// members gives an object's keys (with their quotes) and values.
func members(b []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(k, v []byte) bool) {
		for i := 1; b[i] != '}'; {
			if b[i] == ',' {
				i++
			}
			k := stringExtent(b[i:])
			v := i + k + 1
			n := extent(b[v:])
			if !yield(b[i:i+k], b[v:v+n]) {
				return
			}
			i = v + n
		}
	}
}

// items gives a list's items.
func items(b []byte) iter.Seq[[]byte] {
	return func(yield func(v []byte) bool) {
		for i := 1; b[i] != ']'; {
			if b[i] == ',' {
				i++
			}
			n := extent(b[i:])
			if !yield(b[i : i+n]) {
				return
			}
			i += n
		}
	}
}

// plain returns what a normalized string means.
func plain(b []byte) string {
	if bytes.IndexByte(b, '\\') < 0 {
		return string(b[1 : len(b)-1])
	}
	var s string
	if json.Unmarshal(b, &s) != nil {
		return string(b)
	}
	return s
}

// quoteJSON writes s as a JSON string.
func quoteJSON(s string) []byte {
	b, _ := json.Marshal(s) // a string always marshals
	return b
}
