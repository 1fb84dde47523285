//go:build lab

package e2e_test

import (
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/lab"
)

// The base image and one image per model, each built once: as the caller, with the
// model's settings in it, which lead nowhere outside a sandbox.
func TestBuildImages(t *testing.T) {
	onBoth(t, func(t *testing.T, l *lab.Lab) {
		u := setUp(t, l, "unix:///run/models/none.sock")
		build := func(args ...string) string {
			t.Helper()
			out, err := u.command("launcher", append([]string{"build"}, args...)...).CombinedOutput()
			if err != nil {
				t.Fatalf("launcher build: %v\n%s", err, out)
			}
			return string(out)
		}
		first := build("gpt-oss-120b", "qwen3-next-80b")
		if n := strings.Count(first, "sallyport/"); n != 3 || !strings.Contains(first, "base ") {
			t.Errorf("got\n%s", first)
		}
		again := build("gpt-oss-120b", "qwen3-next-80b")
		if strings.Count(again, "was there") != 3 {
			t.Errorf("again:\n%s", again)
		}
		t.Log(again)
		for line := range strings.Lines(again) {
			f := strings.Fields(line)
			if len(f) < 2 || !strings.HasPrefix(f[1], "sallyport/claude-") {
				continue
			}
			out, err := l.Laptop.Docker(u.ctx, "run", "--rm", "--network", "none", f[1], "sh", "-c", "id -u; cat /etc/claude-code/managed-settings.json")
			if err != nil || !strings.HasPrefix(out, "1000\n") || !strings.Contains(out, `"ANTHROPIC_MODEL": "`) || !strings.Contains(out, ".invalid") {
				t.Errorf("%s: %v\n%s", f[1], err, out)
			}
		}
	})
}
