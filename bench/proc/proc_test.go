package proc

import (
	"os"
	"os/exec"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	const after = " S 7 1 1 0 -1 4194560 100 200 0 0 11 12 13 14 20 0 1 0 12345 1000000 25 18446744073709551615 1 1 0"
	for _, name := range []string{"(sh)", "(a b)", "(:) S 1 (x)", "()"} {
		s, err := parse([]byte("42 " + name + after))
		if want := (stat{parent: 7, cpu: 500 * time.Millisecond, rss: 25 * int64(os.Getpagesize())}); err != nil || s != want {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
	}
	for _, text := range []string{"", "42 (sh)", "42 (sh) S 7", "42 (sh)" + after[:len(" S ")] + "x" + after[len(" S 7"):]} {
		if s, err := parse([]byte(text)); err == nil {
			t.Errorf("%q: %+v", text, s)
		}
	}
}

// A child's memory and time count, a stranger's do not.
func TestOf(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "sh", "-c", "exec 3<&0; cat <&3 & echo up; wait")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close(); _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if _, err := out.Read(make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	all, err := readAll()
	if err != nil {
		t.Fatal(err)
	}
	both, err := Of(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if alone := all[cmd.Process.Pid].rss; alone <= 0 || both.RSS <= alone {
		t.Errorf("the shell has %d bytes, with its child %d", alone, both.RSS)
	}
	self, err := Of(os.Getpid())
	if err != nil || self.RSS <= both.RSS || self.CPU < 0 {
		t.Errorf("we: %+v, %v", self, err)
	}
	if u, err := Of(1 << 30); err == nil {
		t.Errorf("a process that is not: %+v", u)
	}
}

func TestInsideOwnNamespace(t *testing.T) {
	if pid, err := Inside("/proc", os.Getpid()); err != nil || pid != os.Getpid() {
		t.Errorf("%d, %v", pid, err)
	}
	if pid, err := Inside("/proc", 1<<30); err == nil {
		t.Errorf("a process that is not: %d", pid)
	}
}
