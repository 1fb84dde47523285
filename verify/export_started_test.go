package verify

import (
	"os"
	"testing"
)

func TestStartedReadsAnyName(t *testing.T) {
	started, err := Started(os.Getpid())
	if err != nil || started == 0 {
		t.Errorf("own: %d, %v", started, err)
	}
	if _, err := parseStarted("7 (a) b) c) S 1 7 7 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 4711 99"); err != nil {
		t.Error(err)
	}
	if n, _ := parseStarted("7 (a) b) c) S 1 7 7 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 4711 99"); n != 4711 {
		t.Errorf("got %d", n)
	}
	for _, text := range []string{"", "7 (a) S 1", "7 a"} {
		if n, err := parseStarted(text); err == nil {
			t.Errorf("%q: %d", text, n)
		}
	}
}
