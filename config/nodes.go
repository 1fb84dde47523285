package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// inspect walks the file as yaml reads it. It notes the line of every key, and
// reports what viper would take silently: keys in another case or given twice,
// a second document, numbers that would be cut or read as octal.
func (r *report) inspect(data []byte) {
	var doc yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(data))
	err := dec.Decode(&doc)
	if errors.Is(err, io.EOF) {
		return // nothing but comments
	}
	if err != nil {
		r.syntax(err)
		return
	}
	var second yaml.Node
	if err := dec.Decode(&second); !errors.Is(err, io.EOF) {
		if err != nil {
			r.syntax(err)
			return
		}
		r.problems = append(r.problems, Problem{Source: r.file, Line: second.Line, Message: "a second document", Hint: `remove the line "---"`})
		return
	}
	r.node("", doc.Content[0], reflect.TypeFor[Config]())
}

var syntaxLine = lazily(`^yaml: (?:line (\d+): )?`)

// syntax reports an error of the yaml parser, with its line where one belongs.
func (r *report) syntax(err error) {
	text := err.Error()
	p := Problem{Source: r.file, Message: "not valid YAML", Hint: syntaxLine().ReplaceAllString(text, "")}
	if m := syntaxLine().FindStringSubmatch(text); m != nil {
		p.Line, _ = strconv.Atoi(m[1]) // no match: no line
	}
	r.problems = append(r.problems, p)
}

// node checks one value against the type that it is to become.
func (r *report) node(key string, n *yaml.Node, t reflect.Type) {
	if n.Kind == yaml.AliasNode || n.Anchor != "" {
		r.add(key, "anchors and aliases are not supported", "write the value again")
		return
	}
	isStruct := t.Kind() == reflect.Struct && !isText(t)
	switch {
	case n.ShortTag() == "!!null" && (isStruct || t.Kind() == reflect.Slice):
		// Its entries are commented out, perhaps.
		if isStruct && key != "" {
			r.empty = append(r.empty, key)
		}
	case isStruct && n.Kind == yaml.MappingNode && n.ShortTag() == "!!map":
		r.mapping(key, n, t)
	case t.Kind() == reflect.Slice && n.Kind == yaml.SequenceNode && n.ShortTag() == "!!seq":
		for i, item := range n.Content {
			at := fmt.Sprintf("%s[%d]", key, i)
			r.lines[at] = item.Line
			if item.ShortTag() == "!!null" {
				r.add(at, "an empty entry", "remove it")
				continue
			}
			r.node(at, item, t.Elem())
		}
	case isStruct || t.Kind() == reflect.Slice || n.Kind != yaml.ScalarNode:
		r.wrongType(key, n, t)
	default:
		r.scalar(key, n, t)
	}
}

// mapping checks the keys of a section, and each value.
func (r *report) mapping(key string, n *yaml.Node, t reflect.Type) {
	known := fields(t)
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		at := strings.TrimPrefix(key+"."+printable(name.Value), ".")
		if seen[name.Value] {
			r.lines[at] = name.Line
			r.add(at, "given twice", "remove one")
			continue
		}
		seen[name.Value] = true
		r.lines[at] = name.Line
		found := false
		for _, f := range known {
			if f.name == name.Value && name.ShortTag() == "!!str" {
				found = true
				r.node(at, value, f.typ)
			}
		}
		if !found {
			r.add(at, "unknown key", suggest(name.Value, known))
		}
	}
}

// decimal is how whole numbers are written. YAML's other notations are refused:
// 0443 would be 291.
var decimal = lazily(`^-?(0|[1-9][0-9]*)$`)

// fraction is how a number that need not be whole is written.
var fraction = lazily(`^-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,17})?$`)

// scalar checks a single value.
func (r *report) scalar(key string, n *yaml.Node, t reflect.Type) {
	if isText(t) || t.Kind() == reflect.String {
		if n.ShortTag() != "!!str" {
			r.wrongType(key, n, t)
		}
		return
	}
	if t.Kind() == reflect.Float64 {
		if n.ShortTag() != "!!int" && n.ShortTag() != "!!float" || !fraction().MatchString(n.Value) {
			r.wrongType(key, n, t)
		}
		return
	}
	if n.ShortTag() != "!!int" || !decimal().MatchString(n.Value) {
		r.wrongType(key, n, t)
		return
	}
	if _, err := parseWhole(n.Value, t); err != nil {
		r.add(key, err.Error(), "")
	}
}

// parseWhole reads a whole number that fits t, an integer type.
func parseWhole(s string, t reflect.Type) (int, error) {
	n, err := strconv.Atoi(s)
	zero := reflect.Zero(t)
	if err != nil || zero.CanInt() && zero.OverflowInt(int64(n)) || zero.CanUint() && (n < 0 || zero.OverflowUint(uint64(n))) {
		if zero.CanUint() {
			return 0, fmt.Errorf("not a whole number from 0 to %d", ^uint64(0)>>(64-t.Bits()))
		}
		return 0, errors.New("not a whole number, or too large")
	}
	return n, nil
}

// wrongType reports a value of another kind than t. The value itself is not
// repeated: it may be a secret.
func (r *report) wrongType(key string, n *yaml.Node, t reflect.Type) {
	got := map[string]string{
		"!!str": "text", "!!int": "a number", "!!float": "a number with a fraction", "!!bool": "true or false",
		"!!null": "nothing", "!!map": "a section", "!!seq": "a list", "!!timestamp": "a date",
	}[n.ShortTag()]
	if got == "" {
		got = "a value with the tag " + printable(n.ShortTag())
	}
	hint := ""
	if want := kindName(t); want == "text" && n.Kind == yaml.ScalarNode && got != "nothing" {
		hint = "put it in quotes"
	} else if got == "nothing" {
		hint = "remove the line, or give a value"
	} else if strings.HasSuffix(want, "number") && got == "text" {
		hint = "write the digits, without quotes"
	} else if want == "a whole number" && got == "a number" || want == "a number" && strings.HasPrefix(got, "a number") {
		hint = "write it in decimal digits"
	}
	r.add(key, fmt.Sprintf("must be %s, not %s", kindName(t), got), hint)
}

// kindName says what a user writes for a value of type t.
func kindName(t reflect.Type) string {
	switch {
	case isText(t) || t.Kind() == reflect.String:
		return "text"
	case t.Kind() == reflect.Struct:
		return "a section"
	case t.Kind() == reflect.Slice:
		return "a list"
	case t.Kind() == reflect.Float64:
		return "a number"
	}
	return "a whole number"
}

// printable returns s, quoted where it holds what does not print, and bounded.
func printable(s string) string {
	if q := quoted(s); q != `"`+s+`"` {
		return q
	}
	return s
}

// quoted returns s in quotes, without what moves a cursor, and bounded.
func quoted(s string) string {
	const keep = 60
	if len(s) > keep {
		s = s[:keep] + "…"
	}
	return strconv.Quote(s)
}
