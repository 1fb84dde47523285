package verify

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"reflect"
	"strings"
	"testing"
	"unicode"
)

// A proof is the first line and nothing else: what comes behind it, the agent's
// own output, is still there to be read. Only a proof whose every check is there
// and passed lets an agent start.
func FuzzReadProof(f *testing.F) {
	passed := make([]Result, len(checks))
	for i, c := range checks {
		passed[i] = Result{Name: c.name, OK: true, Detail: "as it should be"}
	}
	for _, results := range [][]Result{passed, passed[1:], nil, {{Name: "a\x1b[2J", Detail: "\u202e"}}} {
		var line bytes.Buffer
		if err := WriteProof(&line, results); err != nil {
			f.Fatal(err)
		}
		f.Add(line.Bytes())
		f.Add(append(line.Bytes(), line.Bytes()...))
		f.Add(line.Bytes()[:line.Len()/2])
	}
	f.Add([]byte("sh: 1: exec: not found\r\n"))
	f.Add([]byte(proofMark + `[{"name":"a","ok":false,"OK":true}]` + "\r\nagent"))
	f.Add([]byte(proofMark + "null\n"))
	f.Fuzz(func(t *testing.T, out []byte) {
		r := bufio.NewReader(bytes.NewReader(out))
		results, err := ReadProof(r)
		if err != nil {
			if len(err.Error()) > 4096 || strings.ContainsFunc(err.Error(), unicode.IsControl) {
				t.Errorf("error %q", err)
			}
			return
		}
		line, rest, _ := bytes.Cut(out, []byte("\n"))
		if left, err := io.ReadAll(r); err != nil || !bytes.Equal(left, rest) {
			t.Fatalf("%q is left behind the proof, not %q", left, rest)
		}
		text, ok := strings.CutPrefix(string(line), proofMark)
		if !ok || len(line) > maxProof || !json.Valid([]byte(text)) {
			t.Fatalf("%q was taken for a proof", line)
		}
		if Passed(results) && strings.Count(text, "true") < len(checks) {
			t.Errorf("%q lets the agent start", line)
		}
		var again bytes.Buffer
		if err := WriteProof(&again, results); err != nil {
			t.Fatal(err)
		}
		if second, err := ReadProof(bufio.NewReader(&again)); err != nil || !reflect.DeepEqual(second, results) {
			t.Errorf("%+v is read again as %+v, %v", results, second, err)
		}
	})
}
