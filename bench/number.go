package bench

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// number writes a value as people read it: three digits that mean something, whole
// numbers and groups of thousands.
func number(v float64) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return "–"
	}
	if v == math.Trunc(v) {
		return grouped(strconv.FormatFloat(v, 'f', 0, 64))
	}
	digits := max(0, 2-int(math.Floor(math.Log10(math.Abs(v)))))
	whole, fraction, found := strings.Cut(strconv.FormatFloat(v, 'f', min(digits, 4), 64), ".")
	if found {
		return whole + "." + fraction
	}
	return grouped(whole)
}

// grouped puts a comma between groups of thousands.
func grouped(whole string) string {
	sign := ""
	if strings.HasPrefix(whole, "-") {
		sign, whole = "-", whole[1:]
	}
	for at := len(whole) - 3; at > 0; at -= 3 {
		whole = whole[:at] + "," + whole[at:]
	}
	return sign + whole
}

// unit is what follows a number.
func unit(m Metric) string {
	switch m.Unit {
	case "":
		return ""
	case "/s":
		return m.Unit
	}
	return " " + m.Unit
}

// line is a sample as one line of progress.
func line(s Sample, metrics []Metric) string {
	var parts []string
	for _, m := range metrics {
		parts = append(parts, fmt.Sprintf("%s %s%s", m.Name, number(s[m.Name]), unit(m)))
	}
	return strings.Join(parts, ", ")
}
