package bench

import (
	"fmt"
	"math"
	"strings"
)

// Markdown is the report as text: the machine, every bar in one table, then each case.
func (r Report) Markdown() string {
	var b strings.Builder
	r.writeFacts(&b)
	r.writeBars(&b)
	for _, result := range r.Results {
		result.writeCase(&b)
	}
	return b.String()
}

func (r Report) writeFacts(b *strings.Builder) {
	f := r.Facts
	if r.Smoke {
		b.WriteString("**A smoke run: the numbers mean nothing.**\n\n")
	}
	fmt.Fprintf(b, "One run, %s, commit %s. %d cores of %s, %.0f GB of memory, Linux %s, Go %s, Docker engine %s; the record and the "+
		"peers' logs on %s.\n", f.Date, f.Commit, f.Cores, f.CPU, float64(f.Memory)/(1<<30), f.Kernel, f.Go, f.Engine, f.Disk)
	if len(f.Versions) > 0 {
		fmt.Fprintf(b, "Peers: %s.\n", strings.Join(f.Versions, ", "))
	}
	b.WriteString("Sides of a case are measured in turns. A value is the median of the runs, with their spread behind it (greatest less " +
		"least, as a share of the median); only ratios within one run mean anything.\n\n![Sallyport beside its peers](benchmarks.svg)\n\n")
}

// writeBars writes the table of everything that is judged.
func (r Report) writeBars(b *strings.Builder) {
	judged := false
	for _, result := range r.Results {
		for _, v := range result.Judge() {
			if !judged {
				b.WriteString("| case | compared | result | bar | | aim | |\n|---|---|--:|--:|---|--:|---|\n")
				judged = true
			}
			fmt.Fprintf(b, "| [%s](#%[1]s) | %s | %s |\n", result.Case.Name, cell(v.Bar.what()), strings.Join(v.cells(result.Case), " | "))
		}
	}
	if judged {
		b.WriteString("\n")
	}
}

// cells are result, bar, and aim, each with whether it was reached.
func (v Verdict) cells(c Case) []string {
	word := map[bool]string{true: "reached", false: "**missed**"}
	if v.Why != "" {
		return []string{"–", v.Bar.bar(c), "not judged: " + cell(v.Why), "", ""}
	}
	cells := []string{v.value(c, v.Ratio, v.Bar.Of), v.Bar.bar(c), word[v.Reached], "", ""}
	if v.Bar.Reported {
		cells[2] = ""
	}
	if v.Bar.Aim != 0 {
		cells[3], cells[4] = v.Bar.limit(c, v.Bar.Aim), map[bool]string{true: "reached", false: "missed"}[v.Aimed]
		if v.Bar.AimOf != "" {
			cells[3] += " of " + cell(v.Bar.AimOf)
			cells[4] += fmt.Sprintf(": %s", v.value(c, v.ToAim, v.Bar.AimOf))
		}
	}
	return cells
}

// writeCase writes a case's sides and metrics.
func (r Result) writeCase(b *strings.Builder) {
	fmt.Fprintf(b, "### %s\n\n%s.\n\n| |", r.Case.Name, strings.TrimSuffix(r.Case.Title, "."))
	for _, m := range r.Case.Metrics {
		fmt.Fprintf(b, " %s |", cell(strings.TrimSpace(m.Name+" "+m.Unit)))
	}
	b.WriteString(" runs |\n|---|" + strings.Repeat("--:|", len(r.Case.Metrics)+1) + "\n")
	for _, s := range r.Sides {
		fmt.Fprintf(b, "| %s |", cell(s.Name))
		for _, m := range r.Case.Metrics {
			fmt.Fprintf(b, " %s |", s.cell(m))
		}
		fmt.Fprintf(b, " %d |\n", len(s.Samples))
	}
	b.WriteString("\n")
	for _, s := range r.Sides {
		if s.Error != "" {
			fmt.Fprintf(b, "**%s failed**: %s\n\n", s.Name, cell(s.Error))
		}
	}
	for _, line := range r.growth() {
		fmt.Fprintf(b, "- %s\n", line)
	}
	if len(r.growth()) > 0 {
		b.WriteString("\n")
	}
	if r.Case.Notes != "" {
		fmt.Fprintf(b, "%s\n\n", r.Case.Notes)
	}
}

// cell is a side's value, with the spread if it is a median.
func (s SideResult) cell(m Metric) string {
	v := s.Value(m)
	if math.IsNaN(v) || len(s.Samples) < 2 || m.Worst {
		return number(v)
	}
	return fmt.Sprintf("%s (%s)", number(v), percent(s.Spread(m)))
}

// cell makes text one cell of a table.
func cell(text string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ").Replace(text)
}
