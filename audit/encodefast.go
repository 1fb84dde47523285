package audit

import (
	"math"
	"strconv"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// appendEvent appends what encodeByLibrary gives, without the newline; ok is false
// where it leaves e to that, which is slower, allocates, and has the last word on
// what is an error.
func appendEvent(b []byte, e *Event) (line []byte, ok bool) {
	w := writing{b: b}
	w.b = append(w.b, '{')
	w.moment("time", e.Time)
	w.text("id", e.ID)
	w.text("sandbox", e.Sandbox)
	w.text("agent", e.Agent)
	w.text("model", e.Model)
	w.text("project", e.Project)
	w.text("layer", string(e.Layer))
	w.text("proto", e.Proto)
	w.textIfAny("src", e.Src)
	w.textIfAny("dst", e.Dst)
	w.textIfAny("host", e.Host)
	w.numberIfAny("port", int64(e.Port))
	w.textIfAny("sni", e.SNI)
	w.textIfAny("method", e.Method)
	w.textIfAny("path", e.Path)
	w.text("verdict", e.Verdict)
	w.textIfAny("rule", e.Rule)
	w.textIfAny("reason", e.Reason)
	w.numberIfAny("status", int64(e.Status))
	w.number("bytes_in", e.BytesIn)
	w.number("bytes_out", e.BytesOut)
	w.float("duration", e.Duration)
	w.number("count", e.Count)
	w.numberIfAny("tokens_in", e.TokensIn)
	w.numberIfAny("tokens_out", e.TokensOut)
	w.floatIfAny("first_token", e.FirstToken)
	w.floatIfAny("tokens_per_second", e.TokensPerSecond)
	w.textIfAny("session", e.Session)
	if e.Process != nil {
		w.key("process")
		w.process(e.Process)
	}
	w.textIfAny("repeat_of", e.RepeatOf)
	w.momentIfAny("first", e.First)
	w.momentIfAny("last", e.Last)
	w.trueIfSet("open", e.Open)
	w.numberIfAny("lost", e.Lost)
	w.trueIfSet("about", e.About)
	return append(w.b, '}'), !w.odd
}

// writing is JSON that is being written.
type writing struct {
	b   []byte
	odd bool // there was something for the library
}

func (w *writing) key(name string) {
	if w.b[len(w.b)-1] != '{' {
		w.b = append(w.b, ',')
	}
	w.b = append(w.b, '"')
	w.b = append(w.b, name...)
	w.b = append(w.b, '"', ':')
}

func (w *writing) text(name, s string) {
	w.key(name)
	w.b = appendQuoted(w.b, s)
}

func (w *writing) textIfAny(name, s string) {
	if s != "" {
		w.text(name, s)
	}
}

func (w *writing) number(name string, n int64) {
	w.key(name)
	w.b = strconv.AppendInt(w.b, n, 10)
}

func (w *writing) numberIfAny(name string, n int64) {
	if n != 0 {
		w.number(name, n)
	}
}

func (w *writing) trueIfSet(name string, set bool) {
	if set {
		w.key(name)
		w.b = append(w.b, "true"...)
	}
}

// float writes numbers that have no exponent; the library has the others.
func (w *writing) float(name string, f float64) {
	w.key(name)
	size := math.Abs(f)
	if size != 0 && (size < 1e-6 || size >= 1e21) || math.IsNaN(f) {
		w.odd = true
		return
	}
	w.b = strconv.AppendFloat(w.b, f, 'f', -1, 64)
}

func (w *writing) floatIfAny(name string, f float64) {
	if f == 0 {
		w.odd = w.odd || math.Signbit(f)
		return
	}
	w.float(name, f)
}

func (w *writing) moment(name string, t time.Time) {
	w.key(name)
	var err error
	w.b = append(w.b, '"')
	if w.b, err = t.AppendText(w.b); err != nil {
		w.odd = true
	}
	w.b = append(w.b, '"')
}

func (w *writing) momentIfAny(name string, t time.Time) {
	if !t.IsZero() {
		w.moment(name, t)
	}
}

func (w *writing) process(p *Process) {
	w.b = append(w.b, '{')
	w.numberIfAny("pid", int64(p.PID))
	w.number("uid", int64(p.UID))
	w.textIfAny("exe", p.Exe)
	w.textIfAny("command", p.Command)
	if len(p.Parents) > 0 {
		w.key("parents")
		w.b = append(w.b, '[')
		for i, parent := range p.Parents {
			if i > 0 {
				w.b = append(w.b, ',')
			}
			w.b = append(w.b, '{')
			w.number("pid", int64(parent.PID))
			w.text("name", parent.Name)
			w.b = append(w.b, '}')
		}
		w.b = append(w.b, ']')
	}
	w.textIfAny("unknown", p.Unknown)
	w.b = append(w.b, '}')
}

// appendQuoted appends s in quotes. What is no visible character is escaped, also
// where JSON does not ask for it: see Encode.
func appendQuoted(b []byte, s string) []byte {
	b = append(b, '"')
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			return append(appendEscaped(append(b, s[:i]...), s[i:]), '"')
		}
	}
	return append(append(b, s...), '"')
}

func appendEscaped(b []byte, s string) []byte {
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		i += n
		short := byte(0) // the letter of a short escape
		switch r {
		case '"', '\\':
			short = byte(r)
		case '\b':
			short = 'b'
		case '\f':
			short = 'f'
		case '\n':
			short = 'n'
		case '\r':
			short = 'r'
		case '\t':
			short = 't'
		}
		switch {
		case short != 0:
			b = append(b, '\\', short)
		case visible(r) && !(r == utf8.RuneError && n == 1):
			b = utf8.AppendRune(b, r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			b = appendUnit(appendUnit(b, high), low)
		default:
			b = appendUnit(b, r)
		}
	}
	return b
}

// appendUnit appends a unit of UTF-16 as \uNNNN.
func appendUnit(b []byte, unit rune) []byte {
	const hex = "0123456789abcdef"
	return append(b, '\\', 'u', hex[unit>>12&15], hex[unit>>8&15], hex[unit>>4&15], hex[unit&15])
}
