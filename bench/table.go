package bench

import (
	"fmt"
	"io"
	"math"
	"strings"
	"text/tabwriter"
)

// Table prints a case's result for a terminal.
func (r Result) Table(w io.Writer) error {
	fmt.Fprintf(w, "\n%s: %s\n", r.Case.Name, r.Case.Title)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	head := []string{"", "runs"}
	for _, m := range r.Case.Metrics {
		head = append(head, strings.TrimSpace(m.Name+" "+m.Unit), "spread")
	}
	fmt.Fprintln(t, strings.Join(head, "\t")+"\t")
	for _, s := range r.Sides {
		cells := []string{s.Name, fmt.Sprint(len(s.Samples))}
		for _, m := range r.Case.Metrics {
			cells = append(cells, number(s.Value(m)), s.spread(m))
		}
		fmt.Fprintln(t, strings.Join(cells, "\t")+"\t")
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, s := range r.Sides {
		if s.Error != "" {
			fmt.Fprintf(w, "  FAILED %s: %s\n", s.Name, s.Error)
		}
	}
	for _, line := range r.growth() {
		fmt.Fprintf(w, "  %s\n", line)
	}
	for _, v := range r.Judge() {
		fmt.Fprintf(w, "  %s\n", v.text(r.Case))
	}
	return nil
}

// spread is a side's spread in words; of one run there is none.
func (s SideResult) spread(m Metric) string {
	if len(s.Samples) < 2 {
		return "–"
	}
	return percent(s.Spread(m))
}

func percent(share float64) string { return fmt.Sprintf("%.0f %%", 100*share) }

// text is a verdict as a line.
func (v Verdict) text(c Case) string {
	word := map[bool]string{true: "reached", false: "NOT REACHED"}
	if v.Why != "" {
		return fmt.Sprintf("%s: not judged: %s", v.Bar.what(), v.Why)
	}
	text := fmt.Sprintf("%s: %s; bar %s: %s", v.Bar.what(), v.value(c, v.Ratio, v.Bar.Of), v.Bar.bar(c), word[v.Reached])
	if v.Bar.Reported {
		text = fmt.Sprintf("%s: %s; reported", v.Bar.what(), v.value(c, v.Ratio, v.Bar.Of))
	}
	if v.Bar.Aim != 0 {
		of := ""
		if v.Bar.AimOf != "" {
			of = fmt.Sprintf(" of %s (%s)", v.Bar.AimOf, v.value(c, v.ToAim, v.Bar.AimOf))
		}
		text += fmt.Sprintf("; aim %s%s: %s", v.Bar.limit(c, v.Bar.Aim), of, word[v.Aimed])
	}
	return text
}

// what is compared, in words.
func (b Bar) what() string {
	text := b.Metric + " of " + b.side()
	if b.Of != "" {
		text += " ÷ " + b.Of
	}
	if b.Base != "" {
		text += ", both over " + b.Base
	}
	return text
}

// value is a ratio, or the value with its unit.
func (v Verdict) value(c Case, x float64, of string) string {
	if of != "" {
		return fmt.Sprintf("%.2f", x)
	}
	return number(x) + unit(c.metric(v.Bar.Metric))
}

// bar is what counts as done.
func (b Bar) bar(c Case) string {
	if b.Reported {
		return "reported"
	}
	return b.limit(c, b.Bar)
}

// limit is a bar or an aim with its direction.
func (b Bar) limit(c Case, x float64) string {
	m := c.metric(b.Metric)
	sign := "≥ "
	if m.Less {
		sign = "≤ "
	}
	if b.Of != "" {
		return sign + fmt.Sprintf("%g", x)
	}
	return sign + number(x) + unit(m)
}

func (c Case) metric(name string) Metric {
	for _, m := range c.Metrics {
		if m.Name == name {
			return m
		}
	}
	return Metric{Name: name}
}

// growth says of a curve how each metric grows; nothing of a case that is none.
func (r Result) growth() []string {
	if r.Case.Grows == "" {
		return nil
	}
	var lines []string
	for _, m := range r.Case.Metrics {
		var x, y []float64
		for _, s := range r.Sides {
			if v := s.Value(m); !math.IsNaN(v) {
				x, y = append(x, s.X), append(y, v)
			}
		}
		if b := slope(x, y); !math.IsNaN(b) {
			lines = append(lines, fmt.Sprintf("%s grows with %s to the power of %.2f; × %.2f from %s to %s", m.Name, r.Case.Grows, b,
				y[len(y)-1]/y[0], number(x[0]), number(x[len(x)-1])))
		}
	}
	return lines
}
