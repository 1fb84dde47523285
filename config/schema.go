package config

import (
	"encoding"
	"reflect"
	"strings"
)

// field is one key of the file, found in Config by reflection, so that a key is
// declared once.
type field struct {
	name string // as written in the file
	typ  reflect.Type
}

var textType = reflect.TypeFor[encoding.TextUnmarshaler]()

// isText reports whether t is written as text, though it is no string.
func isText(t reflect.Type) bool { return reflect.PointerTo(t).Implements(textType) }

// fields returns the keys that a section of type t may hold.
func fields(t reflect.Type) []field {
	var out []field
	for i := range t.NumField() {
		f := t.Field(i)
		name := f.Tag.Get("mapstructure")
		if name == ",squash" { // its keys stand among the others
			out = append(out, fields(f.Type)...)
			continue
		}
		if name == "" { // policy.Rule has no tags; mapstructure ignores case
			name = strings.ToLower(f.Name)
		}
		if name != "-" {
			out = append(out, field{name, f.Type})
		}
	}
	return out
}

// leaves returns the path and type of every key outside lists; a list is a leaf.
func leaves() []field {
	var out []field
	var walk func(prefix string, t reflect.Type)
	walk = func(prefix string, t reflect.Type) {
		for _, f := range fields(t) {
			if f.typ.Kind() == reflect.Struct && !isText(f.typ) {
				walk(prefix+f.name+".", f.typ)
				continue
			}
			out = append(out, field{prefix + f.name, f.typ})
		}
	}
	walk("", reflect.TypeFor[Config]())
	return out
}

// suggest returns a hint for an unknown key of a section: a known one that is
// spelled alike, or the section where the key belongs.
func suggest(key string, known []field) string {
	best, distance := "", 3
	for _, f := range known {
		if d := editDistance(strings.ToLower(key), f.name); d < distance && d < len(f.name) {
			best, distance = f.name, d
		}
	}
	if best != "" {
		return `did you mean "` + best + `"?`
	}
	for _, f := range leaves() {
		if section, ok := strings.CutSuffix(f.name, "."+key); ok {
			return `it belongs to "` + section + `"`
		}
	}
	names := make([]string, len(known))
	for i, f := range known {
		names[i] = f.name
	}
	return "known here: " + strings.Join(names, ", ")
}

// editDistance counts the bytes to insert, delete or replace between a and b.
func editDistance(a, b string) int {
	if len(a) > 64 {
		return len(a)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
