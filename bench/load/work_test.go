package load

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// worked is what a worker answers to these lines, without its greeting.
func worked(t *testing.T, lines string) ([]Answer, error) {
	t.Helper()
	var out bytes.Buffer
	err := Work(t.Context(), strings.NewReader(lines), &out)
	var answers []Answer
	for d := json.NewDecoder(&out); ; {
		var a Answer
		if err := d.Decode(&a); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		answers = append(answers, a)
	}
	if len(answers) == 0 || answers[0].ID != Ready {
		t.Fatalf("it did not say that it is ready: %+v", answers)
	}
	return answers[1:], err
}

func TestWork(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/no" {
			w.WriteHeader(http.StatusForbidden)
		}
		if r.URL.Path == "/cut" {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "half")
		}
	}))
	defer server.Close()
	get := func(id, path, rest string) string {
		return `{"id":` + id + `,"job":"get","arg":{"url":"` + server.URL + path + `"` + rest + `}}` + "\n"
	}
	answers, err := worked(t, get("1", "/", `,"n":3,"status":200`)+get("2", "/no", `,"n":1,"status":200`)+get("3", "/cut", `,"n":1,"status":200`)+
		get("4", "/", `,"unknown":1`)+`{"id":5,"job":"nothing"}`)
	if err != nil || len(answers) != 5 {
		t.Fatalf("%+v, %v", answers, err)
	}
	var times Times
	if err := json.Unmarshal(answers[0].Value, &times); err != nil || len(times.NS) != 3 || answers[0].ID != 1 || answers[0].Error != "" {
		t.Errorf("%+v, %v", answers[0], err)
	}
	for i, want := range map[int]string{1: "status 403 instead of 200", 2: "unexpected EOF", 3: `unknown field "unknown"`, 4: `there is no job "nothing"`} {
		if a := answers[i]; a.ID != i+1 || !strings.Contains(a.Error, want) || a.Value != nil {
			t.Errorf("answer %+v does not say %q", a, want)
		}
	}
}

// What is no job ends the worker, with an error.
func TestWorkOfNonsense(t *testing.T) {
	if answers, err := worked(t, "hello\n"); err == nil || len(answers) > 0 {
		t.Errorf("%+v, %v", answers, err)
	}
	if _, err := worked(t, ""); err != nil {
		t.Error(err)
	}
}
