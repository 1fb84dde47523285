package proxy

import (
	"bytes"
	"slices"
)

// checkBody reads a request body and returns it as it may be sent on: row names
// the fields it may hold. The error is a *fieldError or says where the JSON is
// wrong.
func checkBody(in []byte, row string) ([]byte, error) {
	table, err := compiled()
	if err != nil {
		return nil, err
	}
	out, err := normalize(in)
	if err != nil {
		return nil, err
	}
	if out[0] != '{' {
		return nil, refuseField(nil, "not an object")
	}
	if err := table.object(out, table[row], nil, ""); err != nil {
		return nil, err
	}
	return out, nil
}

// setModel checks the body's model name, which must be name or one of aliases,
// and puts name in its place. b must come from checkBody.
func setModel(b []byte, name string, aliases []string) ([]byte, error) {
	for key, value := range members(b) {
		if string(key) != `"model"` {
			continue
		}
		got := plain(value)
		if got == name {
			return b, nil
		}
		if !slices.Contains(aliases, got) {
			return nil, refuseField(&spot{key: "model"}, "%s is not this sandbox's model, %q", quoted(got), name)
		}
		at := cap(b) - cap(value)
		return slices.Concat(b[:at], quoteJSON(name), b[at+len(value):]), nil
	}
	return nil, refuseField(&spot{key: "model"}, "missing")
}

// object checks b, a normalized object, against a row's fields. With set, "type"
// has chosen the row and is allowed.
func (t schema) object(b []byte, row map[string]*spec, at *spot, set string) error {
	for k, v := range members(b) {
		key := plain(k)
		here := spot{up: at, key: key}
		s, ok := row[key]
		switch {
		case ok:
			if err := t.value(v, s, &here); err != nil {
				return err
			}
		case set != "" && key == "type":
		default:
			if known := misspelt(row, key); known != "" {
				return refuseField(&here, "unknown field; it is spelled %q", known)
			}
			return refuseField(&here, "unknown field%s", danger(key))
		}
	}
	return nil
}

// value checks b, a normalized value, against a type.
func (t schema) value(b []byte, s *spec, at *spot) error {
	switch b[0] {
	case '{':
		return t.structured(b, s, at)
	case '[':
		if s.kinds&kArray != 0 {
			return nil
		}
		if s.list == nil {
			break
		}
		index := 0
		for item := range items(b) {
			if err := t.value(item, s.list, &spot{up: at, index: index}); err != nil {
				return err
			}
			index++
		}
		return nil
	case '"':
		if s.takesString(b) {
			return nil
		}
		if word := plain(b); len(s.words) > 0 {
			return refuseField(at, "%s is not allowed here%s", quoted(word), danger(word))
		}
	case 't', 'f':
		if s.kinds&kBool != 0 {
			return nil
		}
	case 'n':
		if s.kinds&kNull != 0 {
			return nil
		}
	default:
		if s.kinds&kNumber != 0 {
			return nil
		}
	}
	return refuseField(at, "not of type %s", s.text)
}

func (t schema) structured(b []byte, s *spec, at *spot) error {
	switch {
	case s.kinds&kObject != 0:
		return nil
	case s.row != "":
		return t.object(b, t[s.row], at, "")
	case s.set == "":
		return refuseField(at, "not of type %s", s.text)
	}
	for key, v := range members(b) {
		if string(key) != `"type"` {
			continue
		}
		if v[0] != '"' {
			break
		}
		typ := plain(v)
		row, ok := t[s.set+typ]
		if !ok {
			return refuseField(&spot{up: at, key: "type"}, "%s is not allowed here%s", quoted(typ), danger(typ))
		}
		return t.object(b, row, at, s.set)
	}
	return refuseField(at, `an object without a "type"`)
}

func (s *spec) takesString(b []byte) bool {
	switch in := b[1 : len(b)-1]; {
	case s.kinds&kString != 0:
		return true
	case s.kinds&kMime != 0:
		return len(in) < 128 && all(in, isMime)
	case s.kinds&kBase64 != 0:
		return all(in, isBase64)
	default:
		return slices.ContainsFunc(s.words, func(w string) bool { return w == string(in) })
	}
}

func all(b []byte, is func(byte) bool) bool {
	return !slices.ContainsFunc(b, func(c byte) bool { return !is(c) })
}

func isAlnum(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

func isMime(c byte) bool { return isAlnum(c) || bytes.IndexByte([]byte("/+-."), c) >= 0 }

func isBase64(c byte) bool { return isAlnum(c) || c == '+' || c == '/' || c == '=' }
