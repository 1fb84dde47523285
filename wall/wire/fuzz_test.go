package wire

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

// A message that is taken is of one kind, and is the same once it was sent on.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		`{"hello":{"role":"hold","token":"t","ipv6":true}}`, `{"netns":{}}`, `{"netns":{},"replug":{}}`, `{"netns":{}}{}`, `{"refused":{"reason":"no"}}`,
		`{"plug":{"sandbox":"0123456789ab","wall4":"10.213.0.1/31","wall6":"fd00::1/127"}}`,
		`{"packets":{"packets":[{"time":1,"sandbox":"","rule":"stray","data":"RQ=="}],"lost":[{"sandbox":"","rule":"other","packets":3}]}}`,
		`{"packets":{"packets":[{"time":1,"sandbox":"0123456789ab","rule":"frame","data":null,"ether_type":34997}]}}`,
		`{"packets":{"begun":[{"sandbox":"0123456789ab","segments":18446744073709551615,"settled":1}]}}`,
		`{"address":{"addr4":"10.213.0.0/31","addr6":"","gate4":"10.213.0.1","gate6":""}}`,
		`{"foreign":{"name":"veth0","kind":"veth","removed":true,"more":-1}}`, `{"replug":{},"Replug":null}`, `{"settled":{"sandbox":"\u00e9","segments":1}} `,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := Parse(data)
		if err != nil {
			if !reflect.DeepEqual(m, Message{}) {
				t.Fatalf("%q: an error with a message: %+v", data, m)
			}
			return
		}
		set := 0
		for _, field := range reflect.ValueOf(m).Fields() {
			if !field.IsNil() {
				set++
			}
		}
		if set != 1 {
			t.Fatalf("%d kinds in %q", set, data)
		}
		sent, err := json.Marshal(m)
		if err != nil {
			t.Fatalf("%q became %+v, which cannot be sent: %v", data, m, err)
		}
		again, err := Parse(sent)
		if err != nil || !alike(t, again, m) {
			t.Errorf("%q became %+v, sent on %+v, %v", data, m, again, err)
		}
		unknown(t, data)
	})
}

// alike compares messages as they are sent: an empty list is none.
func alike(t *testing.T, a, b Message) bool {
	t.Helper()
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

// unknown fails where data has a kind that is not in Message.
func unknown(t *testing.T, data []byte) {
	t.Helper()
	var kinds map[string]json.RawMessage
	if err := json.Unmarshal(data, &kinds); err != nil {
		t.Fatalf("%q was taken, and is %v", data, err)
	}
	for kind := range kinds {
		if _, ok := reflect.TypeFor[Message]().FieldByNameFunc(func(name string) bool { return strings.EqualFold(name, kind) }); !ok {
			t.Errorf("the kind %q was taken", kind)
		}
	}
}
