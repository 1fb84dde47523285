package audit

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// Filter chooses events. Its zero value chooses all; each field that is set
// leaves some out.
type Filter struct {
	Since, Until time.Time // events from Since on and before Until; zero: no bound
	// Denied keeps what was refused, Allowed what was let through; neither or both:
	// all.
	Denied, Allowed bool
	Sandbox         string // its id
	Project         string // its folder, or the last name of that if it has no slash
	// Host is a pattern for the whole host name or address (see func Host), letters
	// of either case. An asterisk stands for any characters within it, also dots,
	// also none; a question mark for one.
	Host string
	// Process is such a pattern, where the case of letters matters, for the
	// executable's name or, if there is a slash in it, its path. Digits alone are a
	// name or a pid.
	Process string
	// Text is looked for in what is shown of an event: target, process, command,
	// reason, path, sandbox, project, rule and SNI. ASCII letters of either case.
	Text      string
	Layer     Layer    // empty: all
	Layers    []Layer  // any of them; empty: all
	Agents    []string // any of them; empty: all
	NotAgents []string // leaves out these agents' events
}

// Match says whether f chooses e. The database is asked the same: see where.
func (f Filter) Match(e Event) bool {
	switch {
	case !f.matchTime(nanos(e.Time)):
	case f.Denied != f.Allowed && f.Denied != e.Denied():
	case f.Sandbox != "" && column(e.Sandbox) != column(f.Sandbox):
	case f.Project != "" && !f.matchProject(column(e.Project)):
	case f.Layer != "" && column(string(e.Layer)) != column(string(f.Layer)):
	case len(f.Layers) > 0 && !slices.Contains(asColumns(f.Layers), column(string(e.Layer))):
	case len(f.Agents) > 0 && !slices.Contains(asColumns(f.Agents), column(e.Agent)):
	case slices.Contains(asColumns(f.NotAgents), column(e.Agent)):
	case f.Host != "" && !glob(f.hostPattern(), Host(e)):
	case f.Process != "" && !f.matchProcess(e):
	case f.Text != "" && !f.matchText(e):
	default:
		return true
	}
	return false
}

func (f Filter) matchTime(t int64) bool {
	return (f.Since.IsZero() || t >= nanos(f.Since)) && (f.Until.IsZero() || t < nanos(f.Until))
}

func (f Filter) matchProject(project string) bool {
	want := column(f.Project)
	return project == want || !strings.Contains(want, "/") && strings.HasSuffix(project, "/"+want)
}

func (f Filter) hostPattern() string { return strings.ToLower(Printable(f.Host)) }

func (f Filter) matchProcess(e Event) bool {
	if e.Process == nil {
		return false
	}
	if strings.Contains(f.Process, "/") {
		return glob(noZero(f.Process), noZero(e.Process.Exe))
	}
	name := processName(e)
	return name != "" && glob(Printable(f.Process), name) || f.pid() > 0 && e.Process.PID == f.pid()
}

// pid is the process id that f asks for; zero: none.
func (f Filter) pid() int {
	pid, err := strconv.ParseUint(f.Process, 10, 31)
	if err != nil {
		return 0
	}
	return int(pid)
}

func (f Filter) matchText(e Event) bool {
	var p Process
	if e.Process != nil {
		p = *e.Process
	}
	want := f.needle()
	return slices.ContainsFunc([]string{
		Target(e), e.Sandbox, e.Project, p.Exe, p.Command, e.Reason, e.Path, e.Rule, e.SNI,
	}, func(s string) bool { return strings.Contains(lower(s), want) })
}

// needle is what Text is looked for as.
func (f Filter) needle() string { return lower(strings.ToValidUTF8(f.Text, "\uFFFD")) }

// lower is s with ASCII letters in lower case, as SQLite's lower.
func lower(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + ('a' - 'A')
		}
		return r
	}, s)
}

// noZero ends s at a zero byte, as SQLite's GLOB does.
func noZero(s string) string {
	s, _, _ = strings.Cut(s, "\x00")
	return s
}

// asColumns are all of them, as columns hold them.
func asColumns[T ~string](all []T) []string {
	list := make([]string, len(all))
	for i, s := range all {
		list[i] = column(string(s))
	}
	return list
}

// glob says whether all of s is as pattern says: an asterisk is any characters,
// a question mark is one. It takes time by the product of both lengths at most.
func glob(pattern, s string) bool {
	p, t := []rune(pattern), []rune(s)
	star, from := -1, 0 // the last asterisk, and where its text ends so far
	i, j := 0, 0
	for j < len(t) {
		switch {
		case i < len(p) && p[i] == '*':
			star, from = i, j
			i++
		case i < len(p) && (p[i] == '?' || p[i] == t[j]):
			i++
			j++
		case star >= 0:
			from++
			i, j = star+1, from
		default:
			return false
		}
	}
	return strings.Trim(string(p[i:]), "*") == ""
}
