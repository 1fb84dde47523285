package agents

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// object is a JSON object whose values stay as they were written, so that what
// we do not know survives a merge unchanged.
type object map[string]json.RawMessage

func (o *object) decode(data []byte) error {
	d := json.NewDecoder(bytes.NewReader(data))
	if err := d.Decode(o); err != nil {
		return fmt.Errorf("not a JSON object: %w", err)
	}
	if *o == nil {
		return errors.New("not a JSON object: null")
	}
	if d.More() {
		return errors.New("more than one JSON value")
	}
	return nil
}

func (o object) encode() ([]byte, error) {
	data, err := json.MarshalIndent(o, "", "  ")
	if err != nil {
		return nil, err
	}
	return append(data, '\n'), nil
}

// child returns the object at key, an empty one if there is none.
func (o object) child(key string) (object, error) {
	c := object{}
	if raw, ok := o[key]; ok {
		if err := c.decode(raw); err != nil {
			return nil, fmt.Errorf("%q: %w", key, err)
		}
	}
	return c, nil
}

// set stores v, which must be a bool, string or object: those always encode.
func (o object) set(key string, v any) {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("agents: encode %q: %v", key, err)) // unreachable with the types above
	}
	o[key] = raw
}

func (o object) setDefault(key string, v any) {
	if _, ok := o[key]; !ok {
		o.set(key, v)
	}
}
