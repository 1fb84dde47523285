package config

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

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
			return
		}
		var problems *Error
		if !errors.As(err, &problems) || len(problems.Problems) == 0 {
			t.Fatalf("%v is no Error", err)
		}
	})
}
