package main

import (
	"bytes"
	"testing"

	"github.com/sallyport/sallyport/config"
	"github.com/sallyport/sallyport/containers"
)

func TestImageName(t *testing.T) {
	for model, want := range map[string]string{
		"gpt-oss-120b": "gpt-oss-120b", "Qwen3-Next": "qwen3-next", "org/Model:v1": "org-model-v1", "-x-": "x", "…": "model", "": "model",
	} {
		got := imageName(model)
		if got != want {
			t.Errorf("%q: %q, want %q", model, got, want)
		}
		spec := containers.ModelImageSpec{Base: "b", Model: got, Files: []containers.ImageFile{{Path: "/a"}}}
		if _, err := containers.ModelTag(spec); err != nil {
			t.Errorf("%q: %v", model, err)
		}
	}
}

func TestImageModels(t *testing.T) {
	cfg := &config.Config{Models: []config.Model{{Name: "mine", Model: "org/mine"}, {Name: "gpt-oss-120b"}}}
	all, err := imageModels(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range all {
		names = append(names, m.Name)
	}
	want := map[string]bool{"gpt-oss-120b": true, "gpt-oss-20b": true, "qwen3-next-80b": true, "mine": true}
	for _, n := range names {
		if !want[n] {
			t.Errorf("%s: not wanted, or twice", n)
		}
		delete(want, n)
	}
	if len(want) > 0 {
		t.Errorf("missing: %v", want)
	}
	if _, err := imageModels(cfg, []string{"nobody"}); err == nil {
		t.Error("an unknown model is built for")
	}
}

func TestPrintImages(t *testing.T) {
	var out bytes.Buffer
	if err := printImages(&out, []builtImage{
		{Image: "sallyport/agent-claude:1", Bytes: 842_400_000, Own: 842_400_000},
		{Model: "gpt-oss-120b", Image: "sallyport/claude-gpt-oss-120b:2", Bytes: 1_842_403_100, Own: 3100, Made: true},
	}, false); err != nil {
		t.Fatal(err)
	}
	const want = `FOR           IMAGE                            SIZE     ITS OWN  
base          sallyport/agent-claude:1         842 MB   842 MB   was there
gpt-oss-120b  sallyport/claude-gpt-oss-120b:2  1.84 GB  3 kB     built
`
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
}
