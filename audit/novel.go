package audit

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// maxNovel bounds what Novel returns.
const maxNovel = 10_000

// Novelty is a destination that a project's last session was the first to try.
type Novelty struct {
	Project string
	Target  string // see Target
	First   Event  // the first attempt at it in that session that the Filter chooses
}

// Novel returns the destinations of each project's last session (the sandbox that
// began last) that no sandbox of the project had tried before that one began:
// those of them that f chooses an attempt at, in the order of their first one, at
// most 10,000. Of f only Project, Agents and NotAgents bear on what counts as a
// session.
func (r *Reader) Novel(ctx context.Context, f Filter) ([]Novelty, error) {
	var all []Novelty
	err := r.view(ctx, func(tx *sql.Tx) error {
		found, err := firsts(ctx, tx, f)
		if err != nil {
			return err
		}
		for _, n := range found {
			e, ok, err := n.event(ctx, tx, f)
			if err != nil {
				return err
			}
			if ok {
				all = append(all, Novelty{Project: n.project, Target: n.target, First: e})
			}
		}
		return nil
	})
	return all, err
}

// first is when a project's last session was at a destination.
type first struct {
	project, sandbox, target string
	first, last              int64
}

// firsts lists the destinations that are new to their projects.
func firsts(ctx context.Context, tx *sql.Tx, f Filter) ([]first, error) {
	w := Filter{Project: f.Project, Agents: f.Agents, NotAgents: f.NotAgents}.where()
	w.add("sandbox <> 'unknown'")
	of, err := form(ctx, tx)
	if err != nil {
		return nil, err
	}
	tried, args := "SELECT project, sandbox, target, first, last FROM rollup"+w.sql(), w.args
	if only := notSummed(of); only != "" {
		w.add(only)
		tried += " UNION ALL SELECT project, sandbox, target, time AS first, time AS last FROM events NOT INDEXED" + w.sql()
		args = append(args, w.args...)
	}
	rows, err := tx.QueryContext(ctx, `WITH
		tried AS MATERIALIZED (SELECT project, sandbox, target, min(first) AS first, max(last) AS last FROM (`+tried+`) GROUP BY project, sandbox, target),
		session AS (SELECT project, sandbox, min(first) AS began FROM tried GROUP BY project, sandbox),
		latest AS MATERIALIZED (SELECT project, sandbox, max(began) AS began FROM session GROUP BY project)
		SELECT tried.project, latest.sandbox, tried.target,
			min(CASE WHEN tried.sandbox = latest.sandbox THEN tried.first END) AS first,
			max(CASE WHEN tried.sandbox = latest.sandbox THEN tried.last END)
		FROM tried JOIN latest USING (project) GROUP BY tried.project, tried.target
		HAVING first IS NOT NULL AND min(CASE WHEN tried.sandbox <> latest.sandbox AND tried.first < latest.began THEN 1 END) IS NULL
		ORDER BY first, tried.target LIMIT ?`, append(args, maxNovel)...)
	if err != nil {
		return nil, err
	}
	defer rows.Close() // Err has the error
	var all []first
	for rows.Next() {
		var n first
		if err := rows.Scan(&n.project, &n.sandbox, &n.target, &n.first, &n.last); err != nil {
			return nil, err
		}
		all = append(all, n)
	}
	return all, rows.Err()
}

// event returns the first event there that f chooses; ok is false: there is none.
func (n first) event(ctx context.Context, tx *sql.Tx, f Filter) (e Event, ok bool, err error) {
	w := f.whereWithTimes()
	w.add("time >= ? AND time <= ?", n.first, n.last)
	w.add("project = ? AND sandbox = ? AND target = ?", n.project, n.sandbox, n.target)
	var found row
	err = tx.QueryRowContext(ctx, "SELECT seq, body FROM events INDEXED BY events_time"+w.sql()+" ORDER BY time, id LIMIT 1", w.args...).Scan(&found.seq, &found.body)
	if errors.Is(err, sql.ErrNoRows) {
		return Event{}, false, nil
	}
	if err != nil {
		return Event{}, false, err
	}
	if e, ok = found.event(); !ok {
		return Event{}, false, fmt.Errorf("the first attempt of %s at %s is damaged\nhint: `gateway audit verify` tells more", n.sandbox, n.target)
	}
	return e, true, nil
}
