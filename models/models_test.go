package models

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestResolve(t *testing.T) {
	for name, want := range map[string]string{
		"demo": "demo", "gpt-oss": "gpt-oss-120b", "GPT-OSS-120B": "gpt-oss-120b", "openai/gpt-oss-120b": "gpt-oss-120b", "qwen3-next": "qwen3-next-80b",
		"Qwen3-Next-80B-A3B": "qwen3-next-80b", "dazipe/Qwen3-Next-80B-A3B-Instruct-GPTQ-Int4A16": "qwen3-next-80b",
		"gpt-oss-20b": "gpt-oss-20b", "openai/gpt-oss-20b": "gpt-oss-20b",
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
		if p.Served != p.Name {
			t.Errorf("%s: its server is called %s", p.Name, p.Served)
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
	with := func(change func(*Profile)) Profile {
		p, _ := Resolve("gpt-oss")
		change(&p)
		return p
	}
	for _, c := range []struct {
		name string
		p    Profile
		o    Override
		want Profile
	}{
		{"nothing", gpt, Override{}, gpt},
		{"own server", gpt, Override{Endpoint: "unix:///run/m.sock", Served: "mine", MaxContext: 4096},
			with(func(p *Profile) {
				p.Served, p.MaxContext, p.Engine, p.Endpoint = "mine", 4096, External, "unix:///run/m.sock"
			})},
		{"own server, called after its weights", gpt, Override{Endpoint: "http://h:1"},
			with(func(p *Profile) { p.Served, p.Engine, p.Endpoint = "openai/gpt-oss-120b", External, "http://h:1" })},
		{"unknown", Profile{}, Override{Name: "mine", Model: "org/mine", Endpoint: "http://127.0.0.1:8000", Engine: LlamaCPP}, Profile{
			Name: "mine", Title: "mine", Model: "org/mine", Served: "org/mine", Engine: LlamaCPP, Endpoint: "http://127.0.0.1:8000",
		}},
		{"name only", Profile{}, Override{Name: "mine", Endpoint: "http://h:1"}, Profile{Name: "mine", Title: "mine", Served: "mine", Engine: External, Endpoint: "http://h:1"}},
		{"unknown, to start", Profile{}, Override{Name: "mine", Model: "org/mine"}, Profile{Name: "mine", Title: "mine", Model: "org/mine", Served: "mine", Engine: VLLM}},
		{"unknown, a GGUF", Profile{}, Override{Name: "mine", Model: "org/mine-GGUF", Engine: LlamaCPP, File: "m.gguf"}, Profile{
			Name: "mine", Title: "mine", Model: "org/mine-GGUF", Served: "mine", Engine: LlamaCPP,
			LlamaCPP: &GGUF{Repo: "org/mine-GGUF", File: "m.gguf", Include: []string{"m.gguf"}},
		}},
		{"llama.cpp", gpt, Override{Engine: LlamaCPP}, with(func(p *Profile) { p.Engine = LlamaCPP })},
		{"name", gpt, Override{Name: "big"}, with(func(p *Profile) { p.Name, p.Served = "big", "big" })},
		{"aliases", gpt, Override{Aliases: []string{"a"}}, with(func(p *Profile) { p.Aliases = append(p.Aliases, "a") })},
		{"same weights", gpt, Override{Model: gpt.Model}, gpt},
		{"other weights", gpt, Override{Model: "org/tuned"}, with(func(p *Profile) {
			p.Model, p.Revision, p.Include, p.WeightsGB, p.LlamaCPP = "org/tuned", "", nil, 0, nil
		})},
		{"served", gpt, Override{Served: "x"}, with(func(p *Profile) { p.Served = "x" })},
		{"context", gpt, Override{MaxContext: 1}, with(func(p *Profile) { p.MaxContext = 1 })},
		{"revision", gpt, Override{Revision: "abc"}, with(func(p *Profile) { p.Revision = "abc" })},
		{"revision of the GGUF", gpt, Override{Engine: LlamaCPP, Revision: "abc"}, with(func(p *Profile) { p.Engine, p.LlamaCPP.Revision = LlamaCPP, "abc" })},
		{"file", gpt, Override{Engine: LlamaCPP, File: "q-00001-of-00002.gguf"}, with(func(p *Profile) {
			p.Engine, p.LlamaCPP.File, p.LlamaCPP.Include, p.LlamaCPP.GB = LlamaCPP, "q-00001-of-00002.gguf", []string{"q-*-of-00002.gguf"}, 0
		})},
		{"image", gpt, Override{Image: "i"}, with(func(p *Profile) { p.Image = "i" })},
		{"args", gpt, Override{Args: []string{"--x"}}, with(func(p *Profile) { p.Args = []string{"--x"} })},
		{"env", gpt, Override{Env: []string{"A=b"}}, with(func(p *Profile) { p.Env = []string{"A=b"} })},
		{"memory", gpt, Override{GPUMemory: 0.5}, with(func(p *Profile) { p.GPUMemory = 0.5 })},
		{"requests", gpt, Override{MaxSeqs: 2}, with(func(p *Profile) { p.MaxSeqs = 2 })},
		{"slots", gpt, Override{Engine: LlamaCPP, MaxSeqs: 2}, with(func(p *Profile) { p.Engine, p.MaxSeqs, p.LlamaCPP.Slots = LlamaCPP, 2, 2 })},
		{"idle", gpt, Override{IdleStop: time.Hour}, with(func(p *Profile) { p.IdleStop = time.Hour })},
		{"hardware", gpt, Override{Hardware: CPU}, with(func(p *Profile) { p.Hardware = CPU })},
	} {
		if got := Merge(c.p, c.o); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %+v\nwant %+v", c.name, got, c.want)
		}
	}
	if fresh, _ := Resolve("gpt-oss"); !reflect.DeepEqual(gpt, fresh) {
		t.Error("merging changed the profile")
	}
	if Merge(gpt, Override{Endpoint: "http://h:1"}).Controlled() || !gpt.Controlled() || (Profile{Engine: External}).Controlled() {
		t.Error("whose network is controlled is told wrongly")
	}
}

// TestEveryOverrideDoesSomething sets the keys one by one, so that a new one
// cannot be forgotten in Merge.
func TestEveryOverrideDoesSomething(t *testing.T) {
	base := Profile{Name: "p", Title: "p", Model: "o/p", Served: "p", Engine: LlamaCPP, LlamaCPP: &GGUF{Repo: "o/g", File: "f.gguf"}}
	for i := range reflect.TypeFor[Override]().NumField() {
		field := reflect.TypeFor[Override]().Field(i)
		var o Override
		v := reflect.ValueOf(&o).Elem().Field(i)
		switch field.Type.Kind() {
		case reflect.String:
			v.SetString("other")
		case reflect.Slice:
			v.Set(reflect.ValueOf([]string{"other"}))
		case reflect.Float64:
			v.SetFloat(0.5)
		default:
			v.SetInt(7)
		}
		if got := Merge(base, o); reflect.DeepEqual(got, Merge(base, Override{})) {
			t.Errorf("%s has no effect", field.Name)
		}
	}
}

func TestWeights(t *testing.T) {
	gpt, _ := Resolve("gpt-oss")
	llama := Merge(gpt, Override{Engine: LlamaCPP})
	for _, c := range []struct {
		name string
		p    Profile
		want Weights
	}{
		{"vllm", gpt, Weights{Repo: "openai/gpt-oss-120b", Revision: "b5c939de8f754692c1647ca79fbf85e8c1e70f8a", Include: safetensors(), GB: 65, Encodings: true}},
		{"llama.cpp", llama, Weights{Repo: "ggml-org/gpt-oss-120b-GGUF", Include: []string{"gpt-oss-120b-mxfp4-*-of-00003.gguf"}, GB: 64}},
		{"somebody else's", Merge(gpt, Override{Endpoint: "http://h:1", Engine: VLLM}), Weights{}},
		{"demo", demoModel(), Weights{}},
	} {
		if got := c.p.Weights(); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %+v, want %+v", c.name, got, c.want)
		}
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
