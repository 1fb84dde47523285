package battery

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/sallyport/sallyport/verify"
	"github.com/sallyport/sallyport/verify/probe"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestEveryProbeIsDescribed(t *testing.T) {
	seen := map[string]bool{}
	good := regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
	for _, p := range All() {
		switch {
		case !good.MatchString(p.Name) || len(p.Name) > 32:
			t.Errorf("%q is no name, or does not fit the table", p.Name)
		case seen[p.Name]:
			t.Errorf("%s is there twice", p.Name)
		case p.Why == "" || p.Source == "" || strings.Contains(p.Why+p.Source, "\n"):
			t.Errorf("%s does not say in a line why it matters and who says so", p.Name)
		case !slices.Contains(Groups, p.Group):
			t.Errorf("%s is of the group %q", p.Name, p.Group)
		case p.Try == nil && !Has(outside, p.Name):
			t.Errorf("%s tries nothing", p.Name)
		}
		seen[p.Name] = true
	}
	for _, g := range Groups {
		if !slices.ContainsFunc(All(), func(p probe.Probe) bool { return p.Group == g }) {
			t.Errorf("no probe of %s", g)
		}
	}
}

// says returns a probe that finds what its target's run is called.
func says(name string) probe.Probe {
	return probe.Probe{Name: name, Group: probe.DNS, Try: func(_ context.Context, t probe.Target) probe.Finding {
		return probe.Reached("%s %s", name, t.Run)
	}}
}

func TestServe(t *testing.T) {
	var list []probe.Probe
	for _, n := range []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"} {
		list = append(list, says(n))
	}
	var running atomic.Int32
	alone := says("alone")
	alone.Alone = true
	for i := range list {
		inner := list[i].Try
		list[i].Try = func(ctx context.Context, t probe.Target) probe.Finding {
			running.Add(1)
			defer running.Add(-1)
			return inner(ctx, t)
		}
	}
	alone.Try = func(context.Context, probe.Target) probe.Finding {
		if n := running.Load(); n != 0 {
			return probe.Unproven("%d others run", n)
		}
		return probe.Reached("alone")
	}
	list = append(list, alone)
	request, err := json.Marshal(Request{Target: probe.Target{Run: "0a1b2c3d"}, Probes: Names(list)})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := Serve(t.Context(), list, bytes.NewReader(append(request, '\n')), &out); err != nil {
		t.Fatal(err)
	}
	var n int
	answers, err := ReadAnswers(&out, func(Answer) { n++ })
	if err != nil || n != len(list) || len(answers) != len(list) {
		t.Fatalf("%d answers, %d told, %v", len(answers), n, err)
	}
	if f := answers["c"].Finding; f.Outcome != verify.Reached || f.Detail != "c 0a1b2c3d" {
		t.Errorf("%+v", f)
	}
	if f := answers["alone"].Finding; f.Detail != "alone" {
		t.Errorf("%+v", f)
	}
}

func TestOwn(t *testing.T) {
	plain, started, refused := says("plain"), says("started"), says("refused")
	started.Own = func(_ context.Context, t *probe.Target) error { t.Run = "changed"; return nil }
	refused.Own = func(context.Context, *probe.Target) error { return syscall.EPERM }
	got := map[string]Answer{}
	err := Run(t.Context(), []probe.Probe{plain, started, refused}, Request{Own: true, Probes: []string{"plain", "started", "refused"}}, func(a Answer) { got[a.Probe] = a })
	if err != nil || len(got) != 2 || got["started"].Finding.Detail != "started changed" || got["refused"].Finding.Errno != "EPERM" {
		t.Errorf("%v %+v", err, got)
	}
}

func TestBadConversations(t *testing.T) {
	for _, in := range []string{"{}", "nonsense\n", `{"probes":["none"]}` + "\n", strings.Repeat("x", maxLine+1)} {
		if err := Serve(t.Context(), nil, strings.NewReader(in), failing{}); err == nil {
			t.Errorf("%.20q is taken for a request", in)
		}
	}
	for _, out := range []string{"", `{"probe":"a"}` + "\n", "nonsense\n", `{"probe":"a"}` + "\n\x1b[2J\n" + `{"done":true}` + "\n"} {
		if _, err := ReadAnswers(strings.NewReader(out), nil); err == nil {
			t.Errorf("%q is taken for answers", out)
		}
	}
	request := strings.NewReader(`{"probes":["a"]}` + "\n")
	if err := Serve(t.Context(), []probe.Probe{says("a")}, request, failing{}); err == nil {
		t.Error("answers that could not be written are no error")
	}
}

func TestSelect(t *testing.T) {
	list := []probe.Probe{says("dns-a"), says("dns-b"), {Name: "tcp-a", Group: probe.Addresses, Try: says("").Try}}
	for _, c := range []struct {
		patterns []string
		want     string
	}{
		{nil, "dns-a dns-b tcp-a"}, {[]string{"dns-*"}, "dns-a dns-b"}, {[]string{"addresses"}, "tcp-a"}, {[]string{"*-a", "dns-a"}, "dns-a tcp-a"},
	} {
		got, err := Select(list, c.patterns)
		if err != nil || strings.Join(Names(got), " ") != c.want {
			t.Errorf("%v: %v, %v", c.patterns, Names(got), err)
		}
	}
	for _, bad := range []string{"none", "[", "dns-a,tcp-a"} {
		if _, err := Select(list, []string{"tcp-a", bad}); err == nil {
			t.Errorf("%q is taken for a probe", bad)
		}
	}
	if got := Needs([]probe.Probe{{Needs: []string{"NET_RAW", "BPF"}}, {Needs: []string{"BPF"}}}); !slices.Equal(got, []string{"BPF", "NET_RAW"}) {
		t.Errorf("%v", got)
	}
}

func TestStrangers(t *testing.T) {
	known := []netip.Addr{netip.MustParseAddr("198.51.100.3")}
	printed := "listening\ncontact 198.51.100.3 6\ncontact 10.213.0.4 17\ncontact fe80::1 58\ncontact :: 58\nnonsense\ncontact 198.51.100.1 6\n"
	if got := Strangers(printed, known); !slices.Equal(got, []string{"10.213.0.4 17", "198.51.100.1 6"}) {
		t.Errorf("%q", got)
	}
	if Strangers("", nil) != nil {
		t.Error("strangers out of nothing")
	}
}

func TestContactOf(t *testing.T) {
	four := append([]byte{0x45, 0, 0, 20, 0, 0, 0, 0, 64, 17, 0, 0}, 203, 0, 113, 9, 198, 51, 100, 10)
	six := append([]byte{0x60, 0, 0, 0, 0, 0, 58, 64}, make([]byte, 32)...)
	six[8], six[9], six[23] = 0x20, 0x01, 9
	for _, c := range []struct {
		packet []byte
		want   string
		ok     bool
	}{{four, "203.0.113.9 17", true}, {six, "2001::9 58", true}, {four[:19], "", false}, {six[:39], "", false}, {nil, "", false}} {
		if got, ok := contactOf(c.packet); got != c.want || ok != c.ok {
			t.Errorf("%x: %q %t", c.packet, got, ok)
		}
	}
}

func TestOneLine(t *testing.T) {
	if got := oneLine(" a\r\n b\tc "); got != "a b c" {
		t.Errorf("%q", got)
	}
	var errno error = syscall.EACCES
	if f := probe.Stopped(errors.Join(errors.New("x"), errno), "open"); f.Errno != "EACCES" || f.Outcome != verify.StoppedInside {
		t.Errorf("%+v", f)
	}
	if f := probe.Stopped(errors.New("no errno"), "open"); f.Outcome != verify.Unproven {
		t.Errorf("%+v", f)
	}
}
