package whole

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParseSteps(t *testing.T) {
	const said = "ok gateway   running, pid 7 (14ms)\nok wall      running, IPv4 (9ms)\nok image     sallyport/agent-claude:1 (2ms)\n" +
		"   a note\nok model     demo at unix:///x, without a network (1.5s)\nok sandbox   0: model at 10.213.0.1:8000 (0s)\nok proof     the sandbox is closed: 11 checks passed (40ms)\n"
	got, err := parseSteps(said)
	if err != nil || got["gateway"] != 14 || got["model"] != 1502 || got["sandbox"] != 0 || got["proof"] != 40 || len(got) != len(stepNames) {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"", strings.Replace(said, "ok proof", "no proof", 1)} {
		if got, err := parseSteps(bad); err == nil {
			t.Errorf("%q: %v", bad, got)
		}
	}
}

func TestParseClock(t *testing.T) {
	if n, err := parseClock("1795720461.552933"); err != nil || n != 1795720461552933 {
		t.Error(n, err)
	}
	for _, bad := range []string{"", "1795720461", "1795720461.55", "x.552933"} {
		if n, err := parseClock(bad); err == nil {
			t.Errorf("%q: %d", bad, n)
		}
	}
}

func TestPercentile(t *testing.T) {
	all := []int64{5, 1, 4, 2, 3}
	if got := percentile(slices.Clone(all), .5); got != 3 {
		t.Error(got)
	}
	if got := percentile(slices.Clone(all), .99); got != 4 {
		t.Error(got)
	}
	if got := percentile([]int64{7}, .99); got != 7 {
		t.Error(got)
	}
}

func TestMachineLoad(t *testing.T) {
	if got := (machineLoad{30, 100}).share(machineLoad{10, 60}); got != 50 {
		t.Error(got)
	}
	if got := (machineLoad{}).share(machineLoad{10, 60}); got != 0 {
		t.Error(got)
	}
	if now := loadNow(); now.all <= 0 || now.busy > now.all {
		t.Errorf("%+v", now)
	}
}

// What is read of a process is its own.
func TestProcess(t *testing.T) {
	own := process(os.Getpid())
	before, err := own.busy()
	if err != nil {
		t.Fatal(err)
	}
	for n, end := 0, time.Now().Add(20*time.Millisecond); time.Now().Before(end); n++ {
	}
	after, err := own.busy()
	rss, rssErr := own.status("VmRSS")
	peak, peakErr := own.status("VmHWM")
	open, openErr := own.descriptors()
	if err != nil || rssErr != nil || peakErr != nil || openErr != nil || after <= before || rss < 1<<20 || peak < rss/2 || open < 3 {
		t.Errorf("busy %s, then %s (%v), %d bytes (%v), at most %d (%v), %d descriptors (%v)", before, after, err, rss, rssErr, peak, peakErr, open, openErr)
	}
	if _, err := own.status("VmNone"); err == nil {
		t.Error("a size that is not there")
	}
	if n, err := process(0).busy(); err == nil {
		t.Error("no process", n)
	}
}
