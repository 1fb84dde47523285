package models

import (
	"reflect"
	"strings"
	"testing"
)

func TestResolve(t *testing.T) {
	for name, want := range map[string]string{
		"demo": "demo", "gpt-oss": "gpt-oss-120b", "GPT-OSS-120B": "gpt-oss-120b", "openai/gpt-oss-120b": "gpt-oss-120b", "qwen3-next": "qwen3-next-80b",
	} {
		if p, ok := Resolve(name); !ok || p.Name != want {
			t.Errorf("%s: got %s, %v; want %s", name, p.Name, ok, want)
		}
	}
	if p, ok := Resolve(""); ok {
		t.Errorf("no name is %s", p.Name)
	}
}

func TestNamesAreUniqueAndUsable(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range All() {
		for _, n := range append([]string{p.Name}, p.Aliases...) {
			if seen[strings.ToLower(n)] {
				t.Errorf("%s is there twice", n)
			}
			seen[strings.ToLower(n)] = true
		}
		if strings.Contains(p.Name, "/") { // vLLM's page on Claude Code: not with "/"
			t.Errorf("%s: Claude Code cannot use it", p.Name)
		}
		if p.Served == "" || p.MaxContext == 0 || p.Title == "" || p.Engine == "" {
			t.Errorf("%s: incomplete", p.Name)
		}
	}
	if p, _ := Resolve("demo"); !p.StandIn() || !strings.Contains(p.Title, "stand-in") {
		t.Error("the demo does not say that it is a stand-in")
	}
}

func TestMerge(t *testing.T) {
	gpt, _ := Resolve("gpt-oss")
	for _, c := range []struct {
		name string
		p    Profile
		o    Override
		want Profile
	}{
		{"nothing", gpt, Override{}, gpt},
		{"own server", gpt, Override{Endpoint: "unix:///run/m.sock", Served: "mine", MaxContext: 4096}, Profile{
			Name: gpt.Name, Aliases: gpt.Aliases, Title: gpt.Title, Model: gpt.Model, Served: "mine", MaxContext: 4096, Engine: External, Endpoint: "unix:///run/m.sock",
		}},
		{"unknown", Profile{}, Override{Name: "mine", Model: "org/mine", Endpoint: "http://127.0.0.1:8000", Engine: LlamaCPP}, Profile{
			Name: "mine", Title: "mine", Model: "org/mine", Served: "org/mine", Engine: LlamaCPP, Endpoint: "http://127.0.0.1:8000",
		}},
		{"name only", Profile{}, Override{Name: "mine", Endpoint: "http://h:1"}, Profile{Name: "mine", Title: "mine", Served: "mine", Engine: External, Endpoint: "http://h:1"}},
	} {
		if got := Merge(c.p, c.o); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %+v\nwant %+v", c.name, got, c.want)
		}
	}
	if Merge(gpt, Override{Endpoint: "http://h:1"}).Controlled() || !gpt.Controlled() || (Profile{Engine: External}).Controlled() {
		t.Error("whose network is controlled is told wrongly")
	}
}

func TestParseEndpoint(t *testing.T) {
	for in, want := range map[string]Address{
		"http://127.0.0.1:8000":  {"tcp", "127.0.0.1:8000"},
		"http://strix.lan/":      {"tcp", "strix.lan:80"},
		"http://[::1]:8000":      {"tcp", "[::1]:8000"},
		"unix:///run/a b/m.sock": {"unix", "/run/a b/m.sock"},
	} {
		if got, err := ParseEndpoint(in); err != nil || got != want {
			t.Errorf("%s: got %+v, %v", in, got, err)
		}
	}
	for _, in := range []string{
		"", "127.0.0.1:8000", "https://h", "http://", "http://h/v1", "http://h:0", "http://h:70000", "http://u:p@h", "http://h?x=1",
		"unix://run/m.sock", "unix:", "unix:///", "unix:///run/../m.sock", "ftp://h", "http://h:x",
	} {
		if got, err := ParseEndpoint(in); err == nil || !strings.Contains(err.Error(), "hint:") {
			t.Errorf("%q: got %+v, %v", in, got, err)
		}
	}
}
