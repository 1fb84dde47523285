package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"go.yaml.in/yaml/v3"

	"github.com/sallyport/sallyport/policy"
)

// Whatever is in the file, the answer is a configuration or an error about it.
func FuzzLoad(f *testing.F) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range append(files, "../config.example.yaml") {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := parse("config.yaml", text, Options{})
		if err == nil {
			if _, err := policy.New(c.Policy.Allow); err != nil {
				t.Fatal(err)
			}
			again, err := parse("config.yaml", text, Options{})
			if err != nil || !reflect.DeepEqual(again, c) {
				t.Errorf("read again it is %+v, %v; it was %+v", again, err, c)
			}
			checkWritten(t, text, c)
			return
		}
		var problems *Error
		if !errors.As(err, &problems) || len(problems.Problems) == 0 {
			t.Fatalf("%v is no Error", err)
		}
		if s := err.Error(); strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) && r != '\n' }) {
			t.Errorf("error %q", s)
		}
	})
}

// checkWritten fails where a host is allowed, or failing closed is given up, that
// the text does not say.
func checkWritten(t *testing.T, text []byte, c *Config) {
	t.Helper()
	var plain any
	if err := yaml.Unmarshal(text, &plain); err != nil {
		t.Fatalf("%q was taken: %v", text, err)
	}
	said := fmt.Sprint(plain)
	for _, rule := range c.Policy.Allow {
		if !strings.Contains(said, rule.Host) {
			t.Errorf("%q allows %q", text, rule.Host)
		}
		for _, port := range rule.Ports {
			if !strings.Contains(said, strconv.Itoa(int(port))) {
				t.Errorf("%q allows port %d", text, port)
			}
		}
	}
	if c.Audit.OnFailure != FailDeny && !strings.Contains(said, string(c.Audit.OnFailure)) {
		t.Errorf("%q goes on without a record", text)
	}
}
