package audit

import (
	"context"
	"fmt"
	"time"
)

// hour is how much time a row of the rollup sums up.
const hour = time.Hour

// Events are summed up runOf at a time, in the order of their numbers: to sum up
// each by itself costs as much as to store it, and twice that if it changes a row
// somewhere among many. At most so many are not summed up yet, but after an
// upgrade. (The number is in the SQL below, too.)
const runOf = 4096

// rollupSchema is added to schema: sums over events by the hour, so that what a
// reader asks first does not take longer the more events there are. They are of
// the events up to the one in table summed; one key has a row for each run of
// events, so that new rows come after the old ones. A trigger takes off what is
// deleted. After that, first may be before what is left of its hour.
const rollupSchema = `
CREATE TABLE summed(seq INTEGER NOT NULL) STRICT;
INSERT INTO summed SELECT coalesce(min(seq) - 1, (SELECT coalesce(max(seq), 0) FROM checkpoints)) FROM events;
CREATE TABLE rollup(
	hour INTEGER NOT NULL,
	run INTEGER NOT NULL,
	denied INTEGER NOT NULL,
	layer TEXT NOT NULL,
	sandbox TEXT NOT NULL,
	agent TEXT NOT NULL,
	project TEXT NOT NULL,
	host TEXT NOT NULL,
	target TEXT NOT NULL,
	process TEXT NOT NULL,
	events INTEGER NOT NULL,
	count INTEGER NOT NULL,
	lost INTEGER NOT NULL,
	tokens_in INTEGER NOT NULL,
	tokens_out INTEGER NOT NULL,
	first INTEGER NOT NULL,
	last INTEGER NOT NULL,
	PRIMARY KEY(hour, run, denied, layer, sandbox, agent, project, host, target, process)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER rollup_delete AFTER DELETE ON events WHEN OLD.seq <= (SELECT seq FROM summed) BEGIN
	UPDATE rollup SET
		events = events - 1, count = count - OLD.count, lost = lost - OLD.lost,
		tokens_in = tokens_in - CASE WHEN OLD.layer = 'model' AND json_valid(OLD.body) THEN coalesce(OLD.body ->> '$.tokens_in', 0) ELSE 0 END,
		tokens_out = tokens_out - CASE WHEN OLD.layer = 'model' AND json_valid(OLD.body) THEN coalesce(OLD.body ->> '$.tokens_out', 0) ELSE 0 END,
		first = min(max(first, OLD.time), last)
	WHERE hour = OLD.time - (OLD.time % 3600000000000 + 3600000000000) % 3600000000000 AND run = (OLD.seq - 1) / 4096
		AND denied = OLD.denied AND layer = OLD.layer AND sandbox = OLD.sandbox AND agent = OLD.agent
		AND project = OLD.project AND host = OLD.host AND target = OLD.target AND process = OLD.process;
	DELETE FROM rollup WHERE events <= 0
		AND hour = OLD.time - (OLD.time % 3600000000000 + 3600000000000) % 3600000000000 AND run = (OLD.seq - 1) / 4096
		AND denied = OLD.denied AND layer = OLD.layer AND sandbox = OLD.sandbox AND agent = OLD.agent
		AND project = OLD.project AND host = OLD.host AND target = OLD.target AND process = OLD.process;
END;
`

// rollupUpgrade makes a database of form 1, which summed up each event as it was
// added, one of form 2, in which nothing is summed up yet.
const rollupUpgrade = `
DROP TRIGGER rollup_insert;
DROP TRIGGER rollup_delete;
DROP TABLE rollup;
` + rollupSchema

// rollupColumns are those of table rollup, in its order.
const rollupColumns = "hour, run, denied, layer, sandbox, agent, project, host, target, process, events, count, lost, tokens_in, tokens_out, first, last"

// sumUp adds to the sums the events after number from, up to number to.
const sumUp = `INSERT INTO rollup(` + rollupColumns + `)
	SELECT time - (time % 3600000000000 + 3600000000000) % 3600000000000 AS h, (seq - 1) / 4096 AS r,
		denied, layer, sandbox, agent, project, host, target, process, count(*), sum(count), sum(lost),
		sum(CASE WHEN layer = 'model' AND json_valid(body) THEN coalesce(body ->> '$.tokens_in', 0) ELSE 0 END),
		sum(CASE WHEN layer = 'model' AND json_valid(body) THEN coalesce(body ->> '$.tokens_out', 0) ELSE 0 END),
		min(time), max(time)
	FROM events NOT INDEXED WHERE seq > ?1 AND seq <= ?2
	GROUP BY h, r, denied, layer, sandbox, agent, project, host, target, process
	ON CONFLICT DO UPDATE SET
		events = events + excluded.events, count = count + excluded.count, lost = lost + excluded.lost,
		tokens_in = tokens_in + excluded.tokens_in, tokens_out = tokens_out + excluded.tokens_out,
		first = min(first, excluded.first), last = max(last, excluded.last)`

// sumStep sums up the next run of events if there is one. It is a part of a
// transaction.
func (w *writer) sumStep(ctx context.Context) error {
	if !w.unsummed() {
		return nil
	}
	to := (w.summed/runOf + 1) * runOf
	if err := w.db.exec(ctx, sumUp, w.summed, to); err != nil {
		return fmt.Errorf("sum up events by the hour: %w", err)
	}
	if err := w.db.exec(ctx, "UPDATE summed SET seq = ?", to); err != nil {
		return err
	}
	w.summed = to
	return nil
}

// unsummed says whether there is a whole run of events to be summed up.
func (w *writer) unsummed() bool { return w.head.Seq >= (w.summed/runOf+1)*runOf }

// form returns which of the forms that are known the database has.
func form(ctx context.Context, q queryer) (form int64, err error) {
	err = q.QueryRowContext(ctx, "SELECT user_version FROM pragma_user_version").Scan(&form)
	return form, err
}

// notSummed are the events that are not among the hourly sums, as a term of SQL;
// empty: all are.
func notSummed(form int64) string {
	if form < 2 {
		return ""
	}
	return "seq > (SELECT seq FROM summed)"
}

// checkRollup says whether the sums by the hour are those of the events. It reads
// all of both.
func checkRollup(ctx context.Context, q queryer) error {
	of, err := form(ctx, q)
	if err != nil {
		return err
	}
	summed := ""
	if of >= 2 {
		summed = " WHERE seq <= (SELECT seq FROM summed)"
	}
	const dims = "hour, denied, layer, sandbox, agent, project, host, target, process"
	var differ int64
	err = q.QueryRowContext(ctx, `SELECT count(*) FROM (
		SELECT 1 FROM (
			SELECT `+dims+`, events, count, lost FROM rollup
			UNION ALL
			SELECT time - (time % ?1 + ?1) % ?1 AS hour, denied, layer, sandbox, agent, project, host, target, process, -1, -count, -lost FROM events`+summed+`
		) GROUP BY `+dims+` HAVING sum(events) <> 0 OR sum(count) <> 0 OR sum(lost) <> 0)`, int64(hour)).Scan(&differ)
	switch {
	case err != nil:
		return fmt.Errorf("compare the hourly sums with the events: %w", err)
	case differ > 0:
		return fmt.Errorf("%d of the hourly sums differ from the events", differ)
	}
	return nil
}
