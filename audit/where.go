package audit

import "strings"

// where is a condition of SQL with its values.
type where struct {
	terms []string
	args  []any
	// body: it asks for more of an event than the rollup has.
	body bool
}

func (w *where) add(term string, args ...any) {
	w.terms = append(w.terms, term)
	w.args = append(w.args, args...)
}

// sql is as " WHERE …", with nothing but our own words in it.
func (w *where) sql() string {
	if len(w.terms) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(w.terms, " AND ")
}

// anyOf is as "name IN (?,?)" or "name NOT IN (?)".
func (w *where) anyOf(name, in string, values []string) {
	if len(values) == 0 {
		return
	}
	args := make([]any, len(values))
	for i, v := range values {
		args[i] = v
	}
	w.add(name+" "+in+" (?"+strings.Repeat(",?", len(values)-1)+")", args...)
}

// where is f for the columns of tables events and open, all but its times: it
// chooses what Match does.
func (f Filter) where() where {
	var w where
	if f.Denied != f.Allowed {
		w.add("denied = ?", f.Denied)
	}
	if f.Sandbox != "" {
		w.add("sandbox = ?", column(f.Sandbox))
	}
	if f.Project != "" {
		f.whereProject(&w)
	}
	if f.Layer != "" {
		w.add("layer = ?", column(string(f.Layer)))
	}
	w.anyOf("layer", "IN", asColumns(f.Layers))
	w.anyOf("agent", "IN", asColumns(f.Agents))
	w.anyOf("agent", "NOT IN", asColumns(f.NotAgents))
	if f.Host != "" {
		w.add("host GLOB ?", sqlGlob(f.hostPattern()))
	}
	if f.Process != "" {
		f.whereProcess(&w)
	}
	if f.Text != "" {
		f.whereText(&w)
	}
	return w
}

// whereWithTimes is where, with the times.
func (f Filter) whereWithTimes() where {
	w := f.where()
	if !f.Since.IsZero() {
		w.add("time >= ?", nanos(f.Since))
	}
	if !f.Until.IsZero() {
		w.add("time < ?", nanos(f.Until))
	}
	return w
}

func (f Filter) whereProject(w *where) {
	project := column(f.Project)
	if strings.Contains(project, "/") {
		w.add("project = ?", project)
		return
	}
	w.add("(project = ? OR substr(project, -length(?)) = ?)", project, "/"+project, "/"+project)
}

func (f Filter) whereProcess(w *where) {
	switch {
	case strings.Contains(f.Process, "/"):
		w.body = true
		w.add("process <> '' AND "+fromBody("coalesce(body ->> '$.process.exe', '') GLOB ?"), sqlGlob(noZero(f.Process)))
	case f.pid() > 0:
		w.body = true
		w.add("(process <> '' AND process GLOB ? OR "+fromBody("body ->> '$.process.pid' = ?")+")", sqlGlob(Printable(f.Process)), f.pid())
	default:
		w.add("process <> '' AND process GLOB ?", sqlGlob(Printable(f.Process)))
	}
}

func (f Filter) whereText(w *where) {
	w.body = true
	want := f.needle()
	either := []string{"instr(lower(target), ?) > 0"}
	args := []any{want}
	// The body as a whole is much quicker to search than its parts, and holds them
	// as they are unless something in them is escaped.
	if plain(want) {
		w.add("(instr(lower(target), ?) > 0 OR body LIKE ? ESCAPE '|')", want, sqlLike(want))
	}
	var parts []string
	for _, name := range []string{"sandbox", "project", "process.exe", "process.command", "reason", "path", "rule", "sni"} {
		parts = append(parts, "instr(lower(coalesce(body ->> '$."+name+"', '')), ?) > 0")
		args = append(args, want)
	}
	w.add("("+strings.Join(either, " OR ")+" OR "+fromBody(strings.Join(parts, " OR "))+")", args...)
}

// fromBody is a term that looks into the body; a body that is damaged has none.
func fromBody(term string) string {
	return "CASE WHEN json_valid(body) THEN " + term + " ELSE 0 END"
}

// plain says whether JSON holds s as it is.
func plain(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] >= 0x7f || s[i] == '"' || s[i] == '\\' {
			return false
		}
	}
	return true
}

// sqlGlob is a pattern for SQLite's GLOB, to which a bracket is special too.
func sqlGlob(pattern string) string { return strings.ReplaceAll(pattern, "[", "[[]") }

// sqlLike is a pattern for LIKE that finds s anywhere.
func sqlLike(s string) string {
	return "%" + strings.NewReplacer("|", "||", "%", "|%", "_", "|_").Replace(s) + "%"
}
