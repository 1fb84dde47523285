package confine

import (
	"errors"
	"io"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestAsk(t *testing.T) {
	for _, test := range []struct {
		version int
		err     error
		abi     int
		why     string // part of it
		fails   bool
	}{
		{1, nil, 1, "", false},
		{7, nil, 7, "", false},
		{0, unix.ENOSYS, 0, "no Landlock", false},
		{0, unix.EOPNOTSUPP, 0, "switched off", false},
		{0, unix.EPERM, 0, "filter of system calls", false},
		{0, unix.EINVAL, 0, "", true},
		{0, unix.EFAULT, 0, "", true},
		{0, nil, 0, "", true},
	} {
		k, err := ask(func() (int, error) { return test.version, test.err })
		if k.ABI != test.abi || !strings.Contains(k.Why, test.why) || (k.Why == "") != (test.why == "") || (err != nil) != test.fails {
			t.Errorf("%d, %v: %+v, %v", test.version, test.err, k, err)
		}
	}
}

func TestHandled(t *testing.T) {
	const all = 1<<16 - 1
	for abi, want := range map[int]rulesetAttr{
		1: {files: 1<<13 - 1}, 2: {files: 1<<14 - 1}, 3: {files: 1<<15 - 1}, 4: {1<<15 - 1, 3, 0}, 5: {all, 3, 0}, 6: {all, 3, 3}, 7: {all, 3, 3}, 11: {all, 3, 3},
	} {
		if got := (Kernel{ABI: abi}).handled(Rules{}); got != want {
			t.Errorf("version %d: %+v", abi, got)
		}
	}
	if got := (Kernel{ABI: 7}).handled(Rules{Connect: true}); got != (rulesetAttr{all, 1, 3}) {
		t.Errorf("with connections: %+v", got)
	}
}

func TestParse(t *testing.T) {
	const none = "CapInh:\t0000000000000000\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nCapBnd:\t000001ffffffffff\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1\n"
	for _, test := range []struct {
		old, new string
		held     uint64
		nnp      bool
		fails    bool
	}{
		{"", "", 0, true, false},
		{"CapInh:\t0000000000000000", "CapInh:\t0000000000001000", 1 << 12, true, false},
		{"CapPrm:\t0000000000000000", "CapPrm:\t0000000000001000", 1 << 12, true, false},
		{"CapEff:\t0000000000000000", "CapEff:\t0000000000000001", 1, true, false},
		{"CapAmb:\t0000000000000000", "CapAmb:\t0000000000001000", 1 << 12, true, false},
		{"NoNewPrivs:\t1", "NoNewPrivs:\t0", 0, false, false},
		{"NoNewPrivs:\t1\n", "", 0, false, true},
		{"CapAmb:\t0000000000000000\n", "", 0, true, true},
		{"CapEff:\t0000000000000000", "CapEff:\tmany", 0, true, true},
	} {
		p, err := parse(strings.NewReader(strings.Replace(none, test.old, test.new, 1)))
		if (err != nil) != test.fails || err == nil && (p.Capabilities != test.held || p.NoNewPrivileges != test.nnp || p.Bounding != 0x1ffffffffff) {
			t.Errorf("%q: %+v, %v", test.new, p, err)
		}
	}
}

// start runs a process of the plan's user until the test has ended.
func start(t *testing.T) int {
	t.Helper()
	c := exec.Command("cat")
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: testUID, Gid: testUID}}
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(in.Close(), c.Wait()); err != nil && !errors.Is(err, io.EOF) {
			t.Error(err)
		}
	})
	return c.Process.Pid
}
