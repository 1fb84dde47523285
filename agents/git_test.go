package agents

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReadGitIdentity(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       GitIdentity
	}{
		{"plain", "[user]\n\tname = Ada Lovelace\n\temail = ada@mail.example\n", GitIdentity{"Ada Lovelace", "ada@mail.example"}},
		{"quotes and comments", "[User]\nName = \"Ada # \\\"L\\\"\" ; who\nemail=ada@mail.example # where\r\n", GitIdentity{`Ada # "L"`, "ada@mail.example"}},
		{"other sections", "[core]\nname = x\n[user \"y\"]\nname = z\n[user]\nemail = a@b.example\n[alias]\nemail = c", GitIdentity{"", "a@b.example"}},
		{"same line, last wins", "[user] name = A\n[user]\nname = B", GitIdentity{"B", ""}},
		{"continued", "[user]\nname = Ada \\\nLovelace", GitIdentity{"Ada Lovelace", ""}},
		{"empty", "", GitIdentity{}},
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, ".gitconfig"), []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := ReadGitIdentity(dir, ""); err != nil || got != c.want {
			t.Errorf("%s: got %+v, %v; want %+v", c.name, got, err, c.want)
		}
	}
}

func TestReadGitIdentityOrder(t *testing.T) {
	home, xdg := t.TempDir(), t.TempDir()
	if got, err := ReadGitIdentity(home, xdg); err != nil || got != (GitIdentity{}) {
		t.Errorf("no files: %+v, %v", got, err)
	}
	if err := os.MkdirAll(filepath.Join(xdg, "git"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(xdg, "git", "config"), []byte("[user]\nname=X\nemail=x@mail.example"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, ".gitconfig"), []byte("[user]\nname=H"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadGitIdentity(home, xdg); err != nil || got != (GitIdentity{"H", "x@mail.example"}) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestGitConfigReadsBack(t *testing.T) {
	id := GitIdentity{Name: `A "b" \ c # d`, Email: "a@mail.example"}
	var back GitIdentity
	text := string(GitConfig(id, `/src/with "quotes"`))
	back.parse(text)
	if back != id {
		t.Errorf("got %+v from %s", back, text)
	}
	if !strings.Contains(text, `directory = "/src/with \"quotes\""`) {
		t.Errorf("no safe folder in %s", text)
	}
	if strings.Contains(string(GitConfig(GitIdentity{}, "/p")), "[user]") {
		t.Error("an empty identity was written")
	}
}
