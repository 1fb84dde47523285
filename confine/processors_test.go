package confine

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
)

func TestHalf(t *testing.T) {
	for n, want := range map[int]int{1: 1, 2: 1, 3: 1, 4: 2, 5: 2, 64: 32} {
		if got := half(n); got != want {
			t.Errorf("half of %d is %d, not %d", n, got, want)
		}
	}
}

// Two calls leave no less than one, and what the environment says stays.
func TestProcessors(t *testing.T) {
	for _, c := range []struct {
		environ string
		want    func(before int) int
	}{
		{"HOME=/", func(before int) int { return 4 * before }}, // of eight times as many
		{"GOMAXPROCS=7", func(int) int { return 7 }},
	} {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env, cmd.Stderr = []string{roleVariable + "=processors", c.environ}, os.Stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		var before, after int
		if _, err := fmt.Sscan(string(out), &before, &after); err != nil || after != c.want(before) {
			t.Errorf("with %s: %q, %v", c.environ, out, err)
		}
	}
}
