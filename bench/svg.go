package bench

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// Measures of the plot, in pixels.
const (
	plotWidth  = 1120
	plotLeft   = 380 // of the scale
	plotRight  = 760
	plotTop    = 86
	plotRow    = 26
	plotBottom = 44
	plotMost   = 3 // powers of two to each side of 1
)

// plotStyle has a background of its own: a page may be dark where its reader's system
// is not.
const plotStyle = `text{font:13px system-ui,sans-serif;fill:#1f2328}.back{fill:#fff}.grid{stroke:#d0d7de}.one{stroke:#1f2328}` +
	`.small{font-size:12px;fill:#59636e}.title{font-size:16px;font-weight:600}.ok{fill:#0969da}.miss{fill:#bc4c00}.none{fill:#8c959f}` +
	`.bar{stroke:#1f2328;stroke-width:2.5}.aim{fill:#fff;stroke:#1f2328;stroke-width:1.5}` +
	`@media(prefers-color-scheme:dark){text{fill:#e6edf3}.back{fill:#0d1117}.grid{stroke:#30363d}.one{stroke:#e6edf3}.small{fill:#9198a1}` +
	`.ok{fill:#4493f8}.miss{fill:#f0883e}.bar{stroke:#e6edf3}.aim{fill:#0d1117;stroke:#e6edf3}}`

// plotLine is a bar of the plot.
type plotLine struct {
	name    string
	value   float64 // 1: as good as the peer; more is better, whatever the metric
	bar     float64 // the same; NaN: none
	aim     float64
	text    string
	reached bool
}

// SVG plots every ratio that is judged: how Sallyport does beside the peer. To the
// right is better.
func (r Report) SVG() string {
	lines := r.plotLines()
	height := plotTop + plotRow*len(lines) + plotBottom
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" role="img" aria-label="Sallyport beside its peers">`+"\n",
		plotWidth, height)
	fmt.Fprintf(&b, "<style>%s</style>\n<rect class=\"back\" width=\"100%%\" height=\"100%%\"/>\n", plotStyle)
	b.WriteString(`<text class="title" x="20" y="30">Sallyport beside its peers</text>` + "\n")
	b.WriteString(`<text class="small" x="20" y="50">1 is as good as the peer; to the right is better: where less is better the scale is turned round. Numbers are as measured.</text>` + "\n")
	drawScale(&b, height)
	for i, l := range lines {
		l.draw(&b, plotTop+plotRow*i)
	}
	drawLegend(&b, height-14)
	b.WriteString("</svg>\n")
	return b.String()
}

func (r Report) plotLines() []plotLine {
	var lines []plotLine
	for _, result := range r.Results {
		for _, v := range result.Judge() {
			if v.Bar.Of == "" || v.Why != "" {
				continue
			}
			l := plotLine{name: result.Case.Name + ": " + v.Bar.Metric, value: v.Ratio, bar: v.Bar.Bar, aim: math.NaN(), reached: v.Reached,
				text: fmt.Sprintf("%.2f of %s", v.Ratio, v.Bar.Of)}
			if v.Bar.Aim != 0 { // where the aim is another's, so is its place
				l.aim = v.Bar.Aim * v.Ratio / v.ToAim
			}
			if result.Case.metric(v.Bar.Metric).Less {
				l.value, l.bar, l.aim = 1/max(0, l.value), 1/l.bar, 1/max(0, l.aim)
			}
			if v.Bar.Reported {
				l.bar = math.NaN()
			}
			lines = append(lines, l)
		}
	}
	return lines
}

// place is where a ratio stands on the scale, which is logarithmic; what is beyond its
// end stands there.
func place(ratio float64) float64 {
	at := max(-plotMost, min(plotMost, math.Log2(max(0, ratio))))
	return plotLeft + (at+plotMost)/(2*plotMost)*(plotRight-plotLeft)
}

func drawScale(b *strings.Builder, height int) {
	for power := -plotMost; power <= plotMost; power++ {
		x, class := place(math.Exp2(float64(power))), "grid"
		if power == 0 {
			class = "one"
		}
		label := fmt.Sprintf("%g", math.Exp2(float64(power)))
		if power < 0 {
			label = "1/" + fmt.Sprint(1<<-power)
		}
		fmt.Fprintf(b, `<line class="%s" x1="%.1f" x2="%.1[2]f" y1="%d" y2="%d"/><text class="small" x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n",
			class, x, plotTop-6, height-plotBottom+2, x, plotTop-12, label)
	}
}

func (l plotLine) draw(b *strings.Builder, y int) {
	class, note := "ok", ""
	switch {
	case math.IsNaN(l.bar):
		class = "none"
	case !l.reached:
		class, note = "miss", ", bar missed"
	}
	one, to := place(1), place(l.value)
	fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="end">%s</text>`, plotLeft-12, y+17, html.EscapeString(l.name))
	fmt.Fprintf(b, `<rect class="%s" x="%.1f" y="%d" width="%.1f" height="14"/>`, class, min(one, to), y+5, math.Abs(to-one))
	fmt.Fprintf(b, `<circle class="%s" cx="%.1f" cy="%d" r="5"/>`, class, to, y+12)
	if !math.IsNaN(l.bar) && l.bar > 0 {
		fmt.Fprintf(b, `<line class="bar" x1="%.1f" x2="%.1[1]f" y1="%d" y2="%d"/>`, place(l.bar), y+1, y+23)
	}
	if !math.IsNaN(l.aim) && l.aim > 0 {
		drawAim(b, place(l.aim), float64(y)+12)
	}
	fmt.Fprintf(b, `<text class="small" x="%d" y="%d">%s</text>`+"\n", plotRight+12, y+17, html.EscapeString(l.text+note))
}

func drawAim(b *strings.Builder, x, y float64) {
	fmt.Fprintf(b, `<path class="aim" d="M%.1f %.1fl5 5l-5 5l-5-5z"/>`, x, y-5)
}

func drawLegend(b *strings.Builder, y int) {
	fmt.Fprintf(b, `<rect class="ok" x="%d" y="%d" width="22" height="10"/><text class="small" x="%d" y="%d">bar reached</text>`, plotLeft, y-9, plotLeft+28, y)
	fmt.Fprintf(b, `<rect class="miss" x="%d" y="%d" width="22" height="10"/><text class="small" x="%d" y="%d">bar missed</text>`, plotLeft+110, y-9, plotLeft+138, y)
	fmt.Fprintf(b, `<line class="bar" x1="%d" x2="%[1]d" y1="%d" y2="%d"/><text class="small" x="%d" y="%d">bar</text>`, plotLeft+222, y-12, y+3, plotLeft+230, y)
	drawAim(b, plotLeft+272, float64(y)-4)
	fmt.Fprintf(b, `<text class="small" x="%d" y="%d">aim</text>`, plotLeft+284, y)
	fmt.Fprintf(b, `<rect class="none" x="%d" y="%d" width="22" height="10"/><text class="small" x="%d" y="%d">no bar</text>`+"\n", plotLeft+322, y-9, plotLeft+350, y)
}
