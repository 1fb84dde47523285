package bench

import (
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/bench/field"
)

var update = flag.Bool("update", false, "write what is got as what is wanted")

// sample is a report with everything that a report can have in it.
func sample() Report {
	us := Metric{Name: "p50", Unit: "µs", Less: true}
	rate := Metric{Name: "rate", Unit: "/s"}
	lost := Metric{Name: "lost", Less: true, Worst: true}
	side := func(name string, x float64, samples ...Sample) SideResult {
		return SideResult{Name: name, X: x, Samples: samples}
	}
	return Report{
		Facts: field.Facts{Date: "2026-11-26 19:00 UTC", Commit: "abc1234", Kernel: "6.12.0", CPU: "A Processor", Cores: 2, Memory: 8 << 30,
			Disk: "ext4", Go: "1.26.0", Engine: "28.0.0", Versions: []string{"nginx-light 1.22.1", "squid 5.7"}},
		Results: []Result{
			{Case: Case{Name: "sse-1", Title: "model endpoint, 1 stream", Metrics: []Metric{us, lost},
				Bars:  []Bar{{Metric: "p50", Of: "reverseproxy", Base: Direct, Bar: 1.1, Aim: 1, AimOf: "nginx"}, {Metric: "lost"}},
				Notes: "What limits it."},
				Sides: []SideResult{
					side(Direct, 0, Sample{"p50": 74, "lost": 0}, Sample{"p50": 75, "lost": 0}),
					side(Ours, 0, Sample{"p50": 131, "lost": 0}, Sample{"p50": 133, "lost": 1}),
					side("reverseproxy", 0, Sample{"p50": 130, "lost": 0}, Sample{"p50": 134, "lost": 0}),
					side("nginx", 0, Sample{"p50": 104, "lost": 0}, Sample{"p50": 104, "lost": 0}),
				}},
			{Case: Case{Name: "refuse", Title: "refused CONNECT | kept alive.", Metrics: []Metric{rate},
				Bars: []Bar{{Metric: "rate", Of: "squid", Bar: 1, Aim: 2}, {Metric: "rate", Of: "goproxy", Bar: 0.8}, {Metric: "rate", Of: "tiny<&>", Bar: 1}, {Metric: "rate", Reported: true, Aim: 3}, {Metric: "rate", Of: "squid", Reported: true, Aim: 2}}},
				Sides: []SideResult{
					side(Ours, 0, Sample{"rate": 18_000}),
					side("squid", 0, Sample{"rate": 23_266}),
					side("tiny<&>", 0, Sample{"rate": 1000}),
					{Name: "goproxy", Error: "answer 7 was cut short"},
				}},
			{Case: Case{Name: "rules", Title: "Policy.Decide", Metrics: []Metric{{Name: "ns", Unit: "ns", Less: true}}, Grows: "rules"},
				Sides: []SideResult{side("10 rules", 10, Sample{"ns": 100}), side("1,000 rules", 1000, Sample{"ns": 200})}},
		},
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is not what is made; go test ./bench -update, and look at the difference:\n%s", file, got)
	}
}

func TestMarkdown(t *testing.T) { golden(t, "report.md", sample().Markdown()) }

func TestTable(t *testing.T) {
	var b strings.Builder
	for _, r := range sample().Results {
		if err := r.Table(&b); err != nil {
			t.Fatal(err)
		}
	}
	golden(t, "table.txt", b.String())
}

func TestSVG(t *testing.T) {
	text := sample().SVG()
	golden(t, "report.svg", text)
	for d := xml.NewDecoder(strings.NewReader(text)); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		e, ok := token.(xml.StartElement)
		for i := 0; ok && i < len(e.Attr); i++ {
			if v := e.Attr[i].Value; strings.Contains(v, "NaN") || strings.Contains(v, "Inf") {
				t.Errorf("%s: %s is %s", e.Name.Local, e.Attr[i].Name.Local, v)
			}
		}
	}
	for _, outside := range []string{"http://", "https://"} {
		if rest := strings.Replace(text, `xmlns="http://www.w3.org/2000/svg"`, "", 1); strings.Contains(rest, outside) {
			t.Errorf("the plot fetches something from %s", outside)
		}
	}
}

// Whatever is measured, the plot stays within its scale.
func TestPlotOfExtremes(t *testing.T) {
	for _, m := range []Metric{{Name: "v", Less: true}, {Name: "v"}} {
		for _, ours := range []float64{-5, 0, 1e-9, 1, 1e9} {
			r := Report{Results: []Result{sided(m, []Bar{{Metric: "v", Of: "peer", Bar: 1.1, Aim: 1}}, values(Ours, ours), values("peer", 1))}}
			if text := r.SVG(); strings.Contains(text, "NaN") || strings.Contains(text, "Inf") || strings.Contains(text, `width="-`) {
				t.Errorf("%v of %+v:\n%s", ours, m, text)
			}
		}
	}
	for ratio, want := range map[float64]float64{1: (plotLeft + plotRight) / 2, 8: plotRight, 1e6: plotRight, 0: plotLeft, 0.125: plotLeft} {
		if got := place(ratio); got != want {
			t.Errorf("%v stands at %v", ratio, got)
		}
	}
}

func TestWriteDocs(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "benchmarks.md")
	if err := sample().WriteDocs(dir); err != nil { // a new document
		t.Fatal(err)
	}
	const before, after = "# Ours\n\nProse.\n\n", "\n\n## Profiles\n\nMore prose.\n"
	if err := os.WriteFile(file, []byte(before+beginMark+"\nold\n"+endMark+after), 0o644); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := sample().WriteDocs(dir); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if want := before + beginMark + "\n\n" + sample().Markdown() + "\n" + endMark + after; string(text) != want {
			t.Errorf("got\n%s", text)
		}
	}
	svg, err := os.ReadFile(filepath.Join(dir, "benchmarks.svg"))
	if err != nil || string(svg) != sample().SVG() {
		t.Error("the plot is another one", err)
	}
	for _, broken := range []string{"", "no marks", beginMark + "\n", endMark, endMark + beginMark + "\n", beginMark + "\n" + endMark + beginMark + "\n" + endMark} {
		if err := os.WriteFile(file, []byte(broken), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := sample().WriteDocs(dir); err == nil {
			t.Errorf("written over %q", broken)
		}
		if text, err := os.ReadFile(file); err != nil || string(text) != broken {
			t.Errorf("%q was changed to %q", broken, text)
		}
	}
}

// Results that were written are the same when they are read.
func TestJSON(t *testing.T) {
	file := filepath.Join(t.TempDir(), "results.json")
	if err := sample().WriteJSON(file); err != nil {
		t.Fatal(err)
	}
	r, err := ReadJSON(file)
	if err != nil {
		t.Fatal(err)
	}
	if r.Markdown() != sample().Markdown() || r.SVG() != sample().SVG() {
		t.Errorf("%+v", r)
	}
}

func TestJoin(t *testing.T) {
	first, second, third := sample(), sample(), sample()
	first.Results, second.Results, third.Results = first.Results[:2], second.Results[1:], third.Results[:1]
	second.Facts.Date, third.Facts.Date = "2026-11-26 21:00 UTC", "2026-11-26 22:00 UTC"
	third.Results[0].Sides = nil
	got, err := Join(first, second, third)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, r := range got.Results {
		names = append(names, r.Case.Name)
	}
	if text := strings.Join(names, " "); text != "sse-1 refuse rules" || got.Results[0].Sides != nil || got.Results[1].Sides == nil {
		t.Errorf("cases %s, %+v", text, got.Results)
	}
	if got.Facts.Date != "2026-11-26 19:00 UTC to 2026-11-26 22:00 UTC" || first.Results[0].Sides == nil {
		t.Errorf("date %q; the first one's results are changed: %v", got.Facts.Date, first.Results[0].Sides == nil)
	}
	second.Facts.Commit = "def5678"
	if got, err := Join(first, second, third); err != nil || got.Facts.Commit != first.Facts.Commit+" (refuse, rules: def5678)" {
		t.Errorf("of two commits: %q, %v", got.Facts.Commit, err)
	}
	for name, change := range map[string]func(*Report){
		"no commit":       func(r *Report) { r.Facts.Commit = "abc1234+" },
		"another machine": func(r *Report) { r.Facts.Cores = 4 },
		"another program": func(r *Report) { r.Facts.Versions = []string{"squid 7"} },
		"a smoke":         func(r *Report) { r.Smoke = true },
	} {
		other := sample()
		change(&other)
		if _, err := Join(first, other); err == nil {
			t.Errorf("%s is joined", name)
		}
	}
}
