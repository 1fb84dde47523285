package audit

import (
	"context"
	"fmt"
	"time"
)

// hour is how much time a row of the rollup sums up.
const hour = time.Hour

// rollupSchema is added to schema: sums over events by the hour, so that what a
// reader asks first does not take longer the more events there are. Triggers
// keep them. After old events were deleted, first may be before what is left of
// its hour.
const rollupSchema = `
CREATE TABLE rollup(
	hour INTEGER NOT NULL,
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
	PRIMARY KEY(hour, denied, layer, sandbox, agent, project, host, target, process)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER rollup_insert AFTER INSERT ON events BEGIN
	INSERT INTO rollup VALUES(
		NEW.time - (NEW.time % 3600000000000 + 3600000000000) % 3600000000000,
		NEW.denied, NEW.layer, NEW.sandbox, NEW.agent, NEW.project, NEW.host, NEW.target, NEW.process,
		1, NEW.count, NEW.lost,
		CASE WHEN NEW.layer = 'model' AND json_valid(NEW.body) THEN coalesce(NEW.body ->> '$.tokens_in', 0) ELSE 0 END,
		CASE WHEN NEW.layer = 'model' AND json_valid(NEW.body) THEN coalesce(NEW.body ->> '$.tokens_out', 0) ELSE 0 END,
		NEW.time, NEW.time
	) ON CONFLICT DO UPDATE SET
		events = events + 1, count = count + excluded.count, lost = lost + excluded.lost,
		tokens_in = tokens_in + excluded.tokens_in, tokens_out = tokens_out + excluded.tokens_out,
		first = min(first, excluded.first), last = max(last, excluded.last);
END;
CREATE TRIGGER rollup_delete AFTER DELETE ON events BEGIN
	UPDATE rollup SET
		events = events - 1, count = count - OLD.count, lost = lost - OLD.lost,
		tokens_in = tokens_in - CASE WHEN OLD.layer = 'model' AND json_valid(OLD.body) THEN coalesce(OLD.body ->> '$.tokens_in', 0) ELSE 0 END,
		tokens_out = tokens_out - CASE WHEN OLD.layer = 'model' AND json_valid(OLD.body) THEN coalesce(OLD.body ->> '$.tokens_out', 0) ELSE 0 END,
		first = min(max(first, OLD.time), last)
	WHERE hour = OLD.time - (OLD.time % 3600000000000 + 3600000000000) % 3600000000000
		AND denied = OLD.denied AND layer = OLD.layer AND sandbox = OLD.sandbox AND agent = OLD.agent
		AND project = OLD.project AND host = OLD.host AND target = OLD.target AND process = OLD.process;
	DELETE FROM rollup WHERE events <= 0
		AND hour = OLD.time - (OLD.time % 3600000000000 + 3600000000000) % 3600000000000
		AND denied = OLD.denied AND layer = OLD.layer AND sandbox = OLD.sandbox AND agent = OLD.agent
		AND project = OLD.project AND host = OLD.host AND target = OLD.target AND process = OLD.process;
END;
`

// checkRollup says whether the sums by the hour are those of the events. It reads
// all of both.
func checkRollup(ctx context.Context, q queryer) error {
	const dims = "hour, denied, layer, sandbox, agent, project, host, target, process"
	var differ int64
	err := q.QueryRowContext(ctx, `SELECT count(*) FROM (
		SELECT 1 FROM (
			SELECT `+dims+`, events, count, lost FROM rollup
			UNION ALL
			SELECT time - (time % ?1 + ?1) % ?1 AS hour, denied, layer, sandbox, agent, project, host, target, process, -1, -count, -lost FROM events
		) GROUP BY `+dims+` HAVING sum(events) <> 0 OR sum(count) <> 0 OR sum(lost) <> 0)`, int64(hour)).Scan(&differ)
	switch {
	case err != nil:
		return fmt.Errorf("compare the hourly sums with the events: %w", err)
	case differ > 0:
		return fmt.Errorf("%d of the hourly sums differ from the events", differ)
	}
	return nil
}
