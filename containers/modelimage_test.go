package containers

import (
	"slices"
	"strings"
	"testing"
)

func TestModelTagNamesWhatIsInTheImage(t *testing.T) {
	base := ModelImageSpec{Base: "sallyport/agent-claude:1", Model: "gpt-oss-120b", Files: []ImageFile{{"/etc/a", []byte("x")}}}
	seen := map[string]bool{}
	for _, s := range []ModelImageSpec{
		base,
		{Base: "sallyport/agent-claude:2", Model: base.Model, Files: base.Files},
		{Base: base.Base, Model: "other", Files: base.Files},
		{Base: base.Base, Model: base.Model, Files: []ImageFile{{"/etc/a", []byte("y")}}},
		{Base: base.Base, Model: base.Model, Files: []ImageFile{{"/etc/b", []byte("x")}}},
	} {
		tag, err := ModelTag(s)
		if err != nil || seen[tag] || !strings.HasPrefix(tag, "sallyport/claude-"+s.Model+":") {
			t.Errorf("%+v: %s, %v", s, tag, err)
		}
		seen[tag] = true
	}
	for name, change := range map[string]func(*ModelImageSpec){
		"no base":      func(s *ModelImageSpec) { s.Base = "" },
		"a new line":   func(s *ModelImageSpec) { s.Base = "x\nRUN y" },
		"no model":     func(s *ModelImageSpec) { s.Model = "" },
		"upper case":   func(s *ModelImageSpec) { s.Model = "Qwen" },
		"slash":        func(s *ModelImageSpec) { s.Model = "a/b" },
		"no files":     func(s *ModelImageSpec) { s.Files = nil },
		"relative":     func(s *ModelImageSpec) { s.Files = []ImageFile{{"etc/a", nil}} },
		"out of files": func(s *ModelImageSpec) { s.Files = []ImageFile{{"/../Dockerfile", nil}} },
	} {
		s := base
		change(&s)
		if tag, err := ModelTag(s); err == nil {
			t.Errorf("%s: %s", name, tag)
		}
	}
}

func TestBuildModelAgent(t *testing.T) {
	spec := ModelImageSpec{Base: "sallyport/agent-claude:1", Model: "m", Files: []ImageFile{{"/etc/claude-code/managed-settings.json", []byte("{}")}}}
	e, asked := builder(t, built)
	tag, made, err := e.BuildModelAgent(t.Context(), spec)
	if want, _ := ModelTag(spec); err != nil || tag != want || !made {
		t.Fatalf("got %s, %t, %v; want %s", tag, made, err, want)
	}
	want := []string{"none|1|", "Dockerfile 44", "files/ 0", "files/etc/ 0", "files/etc/claude-code/ 0", "files/etc/claude-code/managed-settings.json 2"}
	if !slices.Equal(*asked, want) {
		t.Errorf("the engine was asked %q, want %q", *asked, want)
	}
	e, asked = builder(t, built, tag)
	if again, made, err := e.BuildModelAgent(t.Context(), spec); err != nil || again != tag || made || len(*asked) > 0 {
		t.Errorf("with the image there: %s, %t, %v, asked %q", again, made, err, *asked)
	}
	e, _ = builder(t, `{"error":"no space left on device","errorDetail":{"message":"no space left on device"}}`)
	if _, _, err := e.BuildModelAgent(t.Context(), spec); err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("a failed build: %v", err)
	}
}
