package view

import (
	"bufio"
	"io"
	"strings"

	"github.com/sallyport/sallyport/audit"
)

// WriteExplanation writes what decided about an event and what would allow it.
// file names the configuration that lines would go to.
func WriteExplanation(w io.Writer, e audit.Event, file string, s Screen) error {
	b := bufio.NewWriter(w)
	x := Explain(e)
	rows := [][2]string{{"event", audit.Printable(e.ID)}, {"what", What(e)}, {"verdict", audit.Printable(e.Verdict)},
		{"decided", x.Rule}, {"reason", audit.Printable(e.Reason)}, {"why", x.Text}}
	if x.Never != "" {
		rows = append(rows, [2]string{"allow it", "nothing would: " + x.Never})
	}
	var there [][2]string
	for _, r := range rows {
		if r[1] != "" {
			there = append(there, r)
		}
	}
	writePairs(b, there, s)
	if len(x.Config) > 0 {
		for _, text := range wrap(howToAllow(audit.Printable(file), x.Config[0]), s.Width) {
			line(b, text)
		}
		line(b, "\n"+strings.Join(x.Config, "\n"))
	}
	return flush(b, "the explanation")
}

func howToAllow(file, key string) string {
	return "To allow it, add this to " + file + " (where it has \"" + key + "\" already, below that), and try it with `gateway check`. It counts from the next agent that you start."
}
