package config

import (
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// Every key outside lists has a default: only then do its environment variable
// and its flag work. And no two keys share either.
func TestEveryKeyHasADefault(t *testing.T) {
	given := defaults()
	names := map[string]string{}
	for _, f := range leaves() {
		if _, ok := given[f.name]; !ok {
			t.Errorf("%s has no default", f.name)
		}
		delete(given, f.name)
		for _, name := range []string{EnvName(f.name), FlagName(f.name)} {
			if other, dup := names[name]; dup {
				t.Errorf("%s stands for %s and %s", name, other, f.name)
			}
			names[name] = f.name
		}
	}
	for key := range given {
		t.Errorf("%s has a default and does not exist", key)
	}
}

// Sections are two levels deep outside lists: what environment relies on.
func TestKeysAreTwoLevelsDeep(t *testing.T) {
	for _, f := range leaves() {
		if n := strings.Count(f.name, "."); n > 1 || n == 0 && f.typ.Kind() != reflect.Slice {
			t.Errorf("%s", f.name)
		}
	}
}

// allKeys lists every key of the schema, those of list entries included.
func allKeys(prefix string, t reflect.Type) []string {
	var out []string
	for _, f := range fields(t) {
		out = append(out, prefix+f.name)
		inner := f.typ
		if inner.Kind() == reflect.Slice {
			inner = inner.Elem()
		}
		if inner.Kind() == reflect.Struct && !isText(inner) {
			out = append(out, allKeys(prefix+f.name+".", inner)...)
		}
	}
	return out
}

// yamlKeys lists every key of a document likewise.
func yamlKeys(prefix string, n *yaml.Node) []string {
	var out []string
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i < len(n.Content); i += 2 {
			out = append(out, prefix+n.Content[i].Value)
			out = append(out, yamlKeys(prefix+n.Content[i].Value+".", n.Content[i+1])...)
		}
	case yaml.SequenceNode, yaml.DocumentNode:
		for _, item := range n.Content {
			out = append(out, yamlKeys(prefix, item)...)
		}
	}
	return out
}

// The example is valid as it stands, names every key, and its settings outside
// lists are the defaults, as it says.
func TestExample(t *testing.T) {
	const file = "../config.example.yaml"
	home := t.TempDir()
	c, err := Load(Options{Path: file, Home: home})
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	there := yamlKeys("", &doc)
	for _, key := range allKeys("", reflect.TypeFor[Config]()) {
		if !slices.Contains(there, key) {
			t.Errorf("the example lacks %s", key)
		}
	}
	plain, err := Load(Options{Home: home})
	if err != nil {
		t.Fatal(err)
	}
	c.Path, c.Hosts, c.Models, c.Policy.Allow = "", plain.Hosts, plain.Models, plain.Policy.Allow
	if !reflect.DeepEqual(c, plain) {
		t.Errorf("the example sets\n%+v\nwhere the default is\n%+v", c, plain)
	}
}

func TestEditDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"keep", "keep", 0}, {"kepe", "keep", 2}, {"kee", "keep", 1}, {"", "keep", 4}, {"pidz", "pids", 1}, {"xpids", "pids", 1}} {
		if got := editDistance(c.a, c.b); got != c.want {
			t.Errorf("%q, %q: %d, want %d", c.a, c.b, got, c.want)
		}
	}
}
