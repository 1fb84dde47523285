package audit

import (
	"context"
	"database/sql"
	"time"
)

// Totals are sums over events.
type Totals struct {
	Events      int64 // rows, of repeats also those that are still being counted
	Attempts    int64
	Denied      int64 // attempts
	Allowed     int64 // attempts
	Lost        int64 // attempts of which only the number is known; not among Attempts
	TokensIn    int64
	TokensOut   int64
	First, Last time.Time // of the first and the last event; zero: there is none
}

// Totals sums up the events that f chooses.
func (r *Reader) Totals(ctx context.Context, f Filter) (Totals, error) {
	var t Totals
	err := r.view(ctx, func(tx *sql.Tx) error {
		return aggregate{filter: f}.run(ctx, tx, func(s sums) error {
			t = Totals{
				Events: s.events, Attempts: s.count, Denied: s.denied, Allowed: s.count - s.denied, Lost: s.lost,
				TokensIn: s.tokensIn, TokensOut: s.tokensOut, First: fromNanos(s.first), Last: fromNanos(s.last),
			}
			return nil
		})
	})
	return t, err
}

func fromNanos(t int64) time.Time { return time.Unix(0, t).UTC() }
