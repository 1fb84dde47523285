//go:build lab

package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/lab"
)

// An agent commits and branches as the user; what git on the host would run later
// it cannot write.
func TestGitInside(t *testing.T) {
	onBoth(t, func(t *testing.T, l *lab.Lab) {
		u := setUp(t, l, "unix:///run/models/none.sock")
		u.write(filepath.Join(l.Laptop.Home, ".gitconfig"), "[user]\n\tname = Ada\n\temail = ada@users.example\n")
		git := func(args ...string) string {
			t.Helper()
			out, err := u.command("git", args...).CombinedOutput()
			if err != nil {
				t.Fatalf("git %v: %v\n%s", args, err, out)
			}
			return string(out)
		}
		git("init", "-q", "-b", "main")
		git("add", "README.md")
		git("commit", "-q", "-m", "begin")
		const script = `git checkout -q -b topic && echo more >>README.md && git commit -q -a -m "by the agent" && echo COMMITTED
for f in .git/hooks/pre-commit .git/config; do echo x >>$f && echo "WROTE $f"; done
git config core.fsmonitor ./evil && echo CONFIGURED
mv .git .git-away && echo MOVED; true`
		out, err := u.command("launcher", "shell", "demo", "--", "-c", script).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "COMMITTED") {
			t.Errorf("%v\n%s", err, out)
		}
		for _, bad := range []string{"WROTE", "CONFIGURED", "MOVED"} {
			if strings.Contains(string(out), bad) {
				t.Errorf("%s:\n%s", bad, out)
			}
		}
		if log := git("log", "-1", "--format=%an %ae %s", "topic"); log != "Ada ada@users.example by the agent\n" {
			t.Errorf("the log says %q", log)
		}
		hooks, err := os.ReadDir(filepath.Join(u.project, ".git/hooks"))
		for _, h := range hooks {
			if h.Name() == "pre-commit" {
				t.Error("a hook was planted")
			}
		}
		if err != nil {
			t.Error(err)
		}
	})
}
