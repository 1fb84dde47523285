package proxy

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
)

// kind is a set of JSON kinds.
type kind uint8

const (
	kString kind = 1 << iota
	kNumber
	kBool
	kNull
	kObject
	kArray
	kMime
	kBase64
)

// spec is a compiled type of the table fields.
type spec struct {
	text  string // as written, for errors
	kinds kind   // taken without looking inside
	words []string
	list  *spec  // of a list's items
	row   string // of an object's fields
	set   string // of rows that an object's "type" chooses from
}

// schema is the table fields, compiled.
type schema map[string]map[string]*spec

// compiled compiles the table once.
var compiled = sync.OnceValues(func() (schema, error) { return compile(fields) })

func compile(table map[string]map[string]string) (schema, error) {
	out := make(schema, len(table))
	for row, keys := range table {
		out[row] = make(map[string]*spec, len(keys))
		for key, text := range keys {
			s, err := parseSpec(table, text)
			if err != nil {
				return nil, fmt.Errorf("field table, %s.%s: %w", row, key, err)
			}
			out[row][key] = s
		}
	}
	return out, nil
}

var kindWords = map[string]kind{
	"string": kString, "number": kNumber, "bool": kBool, "null": kNull, "object": kObject,
	"any": kString | kNumber | kBool | kNull | kObject | kArray, "mime": kMime, "base64": kBase64,
}

func parseSpec(table map[string]map[string]string, text string) (*spec, error) {
	s := &spec{text: text}
	for alt := range strings.SplitSeq(text, "|") {
		switch {
		case kindWords[alt] != 0:
			s.kinds |= kindWords[alt]
		case strings.HasPrefix(alt, "'"):
			s.words = append(s.words, strings.Trim(alt, "'"))
		case strings.HasPrefix(alt, "["):
			list, err := parseSpec(table, strings.Trim(alt, "[]"))
			if err != nil {
				return nil, err
			}
			s.list = list
		case strings.HasPrefix(alt, "@"):
			s.set = alt[1:] + "/"
		case table[alt] != nil:
			s.row = alt
		default:
			return nil, fmt.Errorf("unknown type %q", alt)
		}
	}
	return s, nil
}

// spot is where in the body a value lies, for errors.
type spot struct {
	up    *spot
	key   string
	index int // used where key is empty
}

func (p *spot) String() string {
	if p == nil {
		return "body"
	}
	var parts []string
	for ; p != nil; p = p.up {
		if p.key == "" {
			parts = append(parts, "["+strconv.Itoa(p.index)+"]")
		} else {
			parts = append(parts, "."+bound(p.key, 80))
		}
	}
	var b strings.Builder
	for i := len(parts) - 1; i >= 0; i-- {
		b.WriteString(parts[i])
	}
	return strings.TrimPrefix(b.String(), ".")
}

// fieldError says which field is refused and why.
type fieldError struct {
	field string
	why   string
}

func (e *fieldError) Error() string { return e.field + ": " + e.why }

func refuseField(at *spot, format string, args ...any) error {
	return &fieldError{at.String(), fmt.Sprintf(format, args...)}
}

// misspelt returns the known key that differs from key in case only.
func misspelt(known map[string]*spec, key string) string {
	for k := range known {
		if strings.EqualFold(k, key) {
			return k
		}
	}
	return ""
}

// danger is a suffix that tells why a word is refused, where that is known.
func danger(word string) string {
	if why := dangers[word]; why != "" {
		return " (" + why + ")"
	}
	return ""
}
