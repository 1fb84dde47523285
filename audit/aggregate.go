package audit

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"strings"
	"time"
)

// sums are what the events of one key have in sum.
type sums struct {
	key                   string
	events, count, denied int64
	lost                  int64
	tokensIn, tokensOut   int64
	first, last           int64 // see nanos
}

// aggregate is a query for sums. Where it can, it reads the hourly sums; hours
// that the filter's times cut, and repeats that are still being counted, come
// from the events themselves.
type aggregate struct {
	filter Filter
	key    string        // expression of SQL, our own words; empty: all is one
	order  string        // of the sums, as ORDER BY takes it; empty: any
	limit  int           // zero: all
	body   bool          // key is not among the columns of the rollup
	grain  time.Duration // key is the time, rounded down to this; zero: it is not
}

// run calls each for every key's sums.
func (a aggregate) run(ctx context.Context, tx *sql.Tx, each func(sums) error) error {
	var open bool
	var form int64
	if err := tx.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM open), user_version FROM pragma_user_version").Scan(&open, &form); err != nil {
		return err
	}
	query, args := a.sql(open, form)
	rows, err := tx.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close() // Err has the error
	for rows.Next() {
		var s sums
		if err := rows.Scan(&s.key, &s.events, &s.count, &s.denied, &s.lost, &s.tokensIn, &s.tokensOut, &s.first, &s.last); err != nil {
			return err
		}
		if err := each(s); err != nil {
			return err
		}
	}
	return rows.Err()
}

// inSum is what is summed up of each source, and of the sources' sums.
const inSum = "SELECT k, sum(e) AS e, sum(c) AS c, sum(d) AS d, sum(l) AS l, sum(i) AS i, sum(o) AS o, min(f) AS f, max(z) AS z FROM ("

// sql is the query; open: there are open rows; form: of the database.
func (a aggregate) sql(open bool, form int64) (query string, args []any) {
	sources := a.sources(form)
	if open {
		from, to := a.times()
		sources = append(sources, source{table: "open", from: from, to: to})
	}
	var parts []string
	for _, one := range sources {
		part, values := one.sql(a)
		if len(sources) > 1 {
			part = inSum + part + ") GROUP BY k"
		}
		parts = append(parts, part)
		args = append(args, values...)
	}
	query = inSum + strings.Join(parts, " UNION ALL ") + ") GROUP BY k"
	if a.order != "" {
		query += " ORDER BY " + a.order
	}
	if a.limit > 0 {
		query += " LIMIT ?"
		args = append(args, a.limit)
	}
	return query, args
}

// times are the filter's, as a source has them.
func (a aggregate) times() (from, to int64) {
	from, to = math.MinInt64, math.MaxInt64
	if !a.filter.Since.IsZero() {
		from = nanos(a.filter.Since)
	}
	if !a.filter.Until.IsZero() {
		to = nanos(a.filter.Until)
	}
	return from, to
}

// source is a table and the piece of time that is read of it.
type source struct {
	table    string
	from, to int64  // see nanos; from included, to not; the greatest: no end
	only     string // a term of SQL; empty: all that is in the table
}

// sources are what the stored events are read from.
func (a aggregate) sources(form int64) []source {
	from, to := a.times()
	fromHour, toHour := from, to
	if from > math.MinInt64 && from < math.MaxInt64-int64(hour) {
		fromHour = hourOf(from + int64(hour) - 1)
	}
	if to < math.MaxInt64 {
		toHour = hourOf(to)
	}
	if fromHour >= toHour || a.body || a.filter.where().body || a.grain%hour != 0 {
		return []source{{table: "events", from: from, to: to}}
	}
	var all []source
	if from < fromHour {
		all = append(all, source{table: "events", from: from, to: fromHour})
	}
	if toHour < to {
		all = append(all, source{table: "events", from: toHour, to: to})
	}
	if only := notSummed(form); only != "" {
		// By their numbers, which are few, and not by their times, which are many.
		all = append(all, source{table: "events NOT INDEXED", from: fromHour, to: toHour, only: only})
	}
	return append(all, source{table: "rollup", from: fromHour, to: toHour})
}

// hourOf is t's hour, as the rollup has it.
func hourOf(t int64) int64 { return t - (t%int64(hour)+int64(hour))%int64(hour) }

// sql is the query for s's rows, each with its key and what is summed up.
func (s source) sql(a aggregate) (string, []any) {
	when, values := "time", "1 AS e, count AS c, count * denied AS d, lost AS l, "+tokens("in")+" AS i, "+tokens("out")+" AS o, time AS f, time AS z"
	if s.table == "rollup" {
		when, values = "hour", "events AS e, count AS c, count * denied AS d, lost AS l, tokens_in AS i, tokens_out AS o, first AS f, last AS z"
	}
	key := a.key
	switch {
	case a.grain > 0:
		key = fmt.Sprintf("%s - (%[1]s %% %[2]d + %[2]d) %% %[2]d", when, int64(a.grain))
	case key == "":
		key = "''"
	}
	w := a.filter.where()
	if s.only != "" {
		w.add(s.only)
	}
	if s.from != math.MinInt64 {
		w.add(when+" >= ?", s.from)
	}
	if s.to != math.MaxInt64 {
		w.add(when+" < ?", s.to)
	}
	return "SELECT " + key + " AS k, " + values + " FROM " + s.table + w.sql(), w.args
}

// tokens are those of one event; only those at the model endpoint have any.
func tokens(way string) string {
	return "CASE WHEN layer = 'model' AND json_valid(body) THEN coalesce(body ->> '$.tokens_" + way + "', 0) ELSE 0 END"
}
