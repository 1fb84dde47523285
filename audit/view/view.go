// Package view makes text for people of the record: tables, CSV, counts, bars,
// one event with all that is known of it, why it was refused and what would allow
// it. Whatever an event holds, only printable characters come out. It reads no
// record (package audit does) and knows no terminal but its width.
package view

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport/sallyport/audit"
)

// Screen is what is written for. Its zero value is a file: nothing is cut, no
// colours, times in UTC.
type Screen struct {
	Width   int            // cells of a line; zero: lines are not cut
	Colours bool           // ANSI's eight
	Loc     *time.Location // of times; nil: UTC
}

func (s Screen) time(t time.Time, layout string) string {
	if t.IsZero() {
		return ""
	}
	return t.In(cmp.Or(s.Loc, time.UTC)).Format(layout)
}

// fit cuts a printable line to the screen's width.
func (s Screen) fit(line string) string {
	if s.Width <= 0 {
		return line
	}
	return Shorten(line, s.Width)
}

// ANSI's colours, by what they mean here.
const (
	red   = "31"
	green = "32"
	faint = "2"
)

// paint colours a printable text.
func (s Screen) paint(colour, text string) string {
	if !s.Colours || colour == "" || text == "" {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[m"
}

// someTime is as wide as any other one.
var someTime = time.Unix(0, 0)

// Layouts of times.
const (
	wholeTime = "2006-01-02 15:04:05"
	narrow    = "01-02 15:04"
)

// Who is the sandbox and the last name of its project's folder.
func Who(e audit.Event) string {
	if e.Project == "" {
		return audit.Printable(e.Sandbox)
	}
	return audit.Printable(e.Sandbox + "/" + filepath.Base(e.Project))
}

// project is Who in few words: the last name of the project's folder, or the
// sandbox where there is none.
func project(e audit.Event) string {
	if e.Project == "" {
		return audit.Printable(e.Sandbox)
	}
	return audit.Printable(filepath.Base(e.Project))
}

// processName is Process in few words: without parents and reasons.
func processName(e audit.Event) string {
	switch p := e.Process; {
	case p == nil:
		return ""
	case p.Exe == "":
		return "unknown"
	default:
		return Process(&audit.Process{PID: p.PID, Exe: p.Exe})
	}
}

// Process names who made an attempt and its parents, "curl(123) < bash < claude",
// or "unknown: " and why; empty: it was not looked for.
func Process(p *audit.Process) string {
	if p == nil {
		return ""
	}
	name := path.Base(p.Exe)
	switch {
	case p.Exe == "" && p.Unknown == "":
		return "unknown: no reason is recorded"
	case p.Exe == "":
		return audit.Printable("unknown: " + p.Unknown)
	}
	if p.PID != 0 {
		name += "(" + strconv.Itoa(p.PID) + ")"
	}
	for _, parent := range p.Parents {
		name += " < " + cmp.Or(parent.Name, "?")
	}
	if p.Unknown != "" {
		name += " (" + p.Unknown + ")"
	}
	return audit.Printable(name)
}

// What says what was tried, and how: "dns A api.example.com",
// "proxy api.example.com:443", "tcp 203.0.113.9:443 (www.example)".
func What(e audit.Event) string {
	switch {
	case e.Lost > 0:
		if e.Rule == "lost" {
			return join(how(e), about(e), "lost")
		}
		return join(string(e.Layer), e.Rule, about(e), "lost")
	case e.Layer == audit.LayerDNS:
		return join("dns", e.Method, e.Host)
	case e.Layer == audit.LayerModel:
		return join("model", audit.Target(e))
	case e.Layer == audit.LayerPacket:
		return join(how(e), cmp.Or(e.Dst, e.Host))
	case e.Layer == audit.LayerControl:
		return join(string(e.Layer), e.Rule, cmp.Or(e.Host, e.Dst))
	case e.Layer == audit.LayerIntercept: // where it was aimed, and what it said
		return intercepted(e)
	}
	target := e.Dst
	if e.Host != "" {
		target = hostPort(e) + e.Path
	}
	if method := e.Method; method != "CONNECT" { // which is what a proxy is for
		return join(string(e.Layer), method, target)
	}
	return join(string(e.Layer), target)
}

func intercepted(e audit.Event) string {
	proto := e.Proto
	if e.Method != "" {
		proto = "http " + e.Method
	}
	text := join(cmp.Or(proto, string(e.Layer)), cmp.Or(e.Dst, hostPort(e))+e.Path)
	if claim := cmp.Or(e.SNI, e.Host); claim != "" && e.Dst != "" {
		text += audit.Printable(" (" + claim + ")")
	}
	return text
}

// join puts a blank between those words that there are.
func join(words ...string) string {
	var there []string
	for _, w := range words {
		if w != "" {
			there = append(there, w)
		}
	}
	return audit.Printable(strings.Join(there, " "))
}

func hostPort(e audit.Event) string {
	if e.Port == 0 || e.Host == "" {
		return e.Host
	}
	host := e.Host
	if strings.Contains(host, ":") && !strings.HasPrefix(host, "[") {
		host = "[" + host + "]"
	}
	return host + ":" + strconv.Itoa(int(e.Port))
}

// how says by which way: the layer, and of packets the protocol.
func how(e audit.Event) string {
	if e.Layer != audit.LayerPacket {
		return string(e.Layer)
	}
	if _, err := strconv.Atoi(e.Proto); err == nil {
		return "protocol " + e.Proto
	}
	return cmp.Or(e.Proto, string(audit.LayerPacket))
}

// about is the number of lost attempts, "about" it where that is all that is known.
func about(e audit.Event) string {
	n := strconv.FormatInt(e.Lost, 10)
	if e.About {
		return "about " + n
	}
	return n
}

// Why is the reason in the record.
func Why(e audit.Event) string { return audit.Printable(e.Reason) }

// Times is how many attempts an event stands for: "×12"; "+12" of repeats, "+12…"
// while they are being counted; empty: one.
func Times(e audit.Event) string {
	n := strconv.FormatInt(max(e.Count, e.Lost), 10)
	switch {
	case e.Open:
		return "+" + n + "…"
	case e.RepeatOf != "":
		return "+" + n
	case e.Count <= 1 && e.Lost == 0:
		return ""
	}
	return "×" + n
}

// flush ends what was written to b, and says what was written where it fails.
func flush(b *bufio.Writer, what string) error {
	if err := b.Flush(); err != nil {
		return fmt.Errorf("write %s: %w", what, err)
	}
	return nil
}

// line writes a line of text; the flush of w has its error.
func line(w io.Writer, text string) { fmt.Fprintln(w, text) }
