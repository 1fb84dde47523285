package metrics_test

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/metrics"
)

// dashboard is what is looked at of docs/grafana.json.
type dashboard struct {
	Panels     []panel `json:"panels"`
	Templating struct {
		List []struct {
			Name  string `json:"name"`
			Type  string `json:"type"`
			Query any    `json:"query"`
		} `json:"list"`
	} `json:"templating"`
}

type panel struct {
	Title   string `json:"title"`
	Type    string `json:"type"`
	GridPos struct{ X, Y, W, H int }
	Source  struct {
		UID string `json:"uid"`
	} `json:"datasource"`
	Targets []struct {
		Expr   string `json:"expr"`
		Legend string `json:"legendFormat"`
	} `json:"targets"`
}

var (
	metricName = regexp.MustCompile(`\b(?:sallyport|process|go)_[a-z0-9_]+\b`)
	// A label in a selector, a by clause or a legend.
	labelUse = regexp.MustCompile(`([a-z_]+)\s*(?:=~|!~|!=|=)\s*"|\b(?:by|on)\s*\(([^)]*)\)|\{\{\s*([a-z_]+)\s*\}\}`)
)

// Labels that Prometheus gives to what it scrapes.
var scraped = []string{"instance", "job"}

func readDashboard(t *testing.T) dashboard {
	t.Helper()
	data, err := os.ReadFile("../docs/grafana.json")
	if err != nil {
		t.Fatal(err)
	}
	var d dashboard
	if err := json.Unmarshal(data, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// labelsOf are the labels of each sample name of a scrape.
func labelsOf(t *testing.T) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	label := regexp.MustCompile(`([a-z_]+)="`)
	for series := range samples(t, scrape(t, metrics.New(sources()))) {
		name, rest, _ := strings.Cut(series, "{")
		found[name] = append(found[name], scraped...)
		for _, m := range label.FindAllStringSubmatch(rest, -1) {
			found[name] = append(found[name], m[1])
		}
	}
	return found
}

// Each metric of each panel is in /metrics, with each label that is asked for.
func TestDashboardAsksForWhatThereIs(t *testing.T) {
	have := labelsOf(t)
	shown := map[string]bool{}
	panels := 0
	for _, p := range readDashboard(t).Panels {
		if p.Type == "row" {
			continue
		}
		panels++
		if len(p.Targets) == 0 || p.Source.UID != "${datasource}" {
			t.Errorf("%s: %d targets, data source %q", p.Title, len(p.Targets), p.Source.UID)
		}
		for _, target := range p.Targets {
			names := metricName.FindAllString(target.Expr, -1)
			if len(names) == 0 {
				t.Errorf("%s: no metric in %s", p.Title, target.Expr)
			}
			var labels []string
			for _, name := range names {
				if have[name] == nil {
					t.Errorf("%s: there is no %s", p.Title, name)
				}
				shown[name] = true
				labels = append(labels, have[name]...)
			}
			for _, use := range labelUse.FindAllStringSubmatch(target.Expr+" "+target.Legend, -1) {
				for name := range strings.FieldsFuncSeq(use[1]+","+use[2]+","+use[3], func(r rune) bool { return r == ',' || r == ' ' }) {
					if !slices.Contains(labels, name) {
						t.Errorf("%s: %s has no label %s", p.Title, target.Expr, name)
					}
				}
			}
		}
	}
	if panels < 20 {
		t.Errorf("%d panels", panels)
	}
	for name := range have {
		part := strings.HasSuffix(name, "_sum") || strings.HasSuffix(name, "_count")
		if strings.HasPrefix(name, "sallyport_") && !part && !shown[name] {
			t.Errorf("no panel shows %s", name)
		}
	}
}

func TestDashboardCanBeImported(t *testing.T) {
	d := readDashboard(t)
	sources := 0
	for _, v := range d.Templating.List {
		if v.Name == "datasource" && v.Type == "datasource" && v.Query == "prometheus" {
			sources++
		}
	}
	if sources != 1 {
		t.Error("it has no variable for the data source")
	}
	for i, p := range d.Panels {
		if p.GridPos.W == 0 || p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("%s is at %+v", p.Title, p.GridPos)
		}
		for _, q := range d.Panels[:i] {
			a, b := p.GridPos, q.GridPos
			if a.X < b.X+b.W && b.X < a.X+a.W && a.Y < b.Y+b.H && b.Y < a.Y+a.H {
				t.Errorf("%s lies over %s", p.Title, q.Title)
			}
		}
	}
}
