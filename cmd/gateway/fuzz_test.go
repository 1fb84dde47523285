package main

import (
	"strings"
	"testing"
	"time"
)

// A moment that is read lies where it says: a length of time before now, or on
// the day that is written.
func FuzzMoment(f *testing.F) {
	for _, s := range []string{"10m", "12h", "2d", "1w", "2026-01-31", "2026-01-31 15:04", "2026-01-31T15:04:05+02:00", "today", "yesterday", "now", "-1h", "0", "99999999w", "1.5h", "forever"} {
		f.Add(s)
	}
	now := time.Date(2026, 3, 2, 23, 30, 0, 0, time.UTC)
	east := time.FixedZone("east", 2*3600)
	f.Fuzz(func(t *testing.T, s string) {
		at, ok := parseMoment(s, now, east)
		if !ok {
			if !at.IsZero() {
				t.Errorf("%q is no moment, and %v", s, at)
			}
			return
		}
		if again, ok := parseMoment(s, now, east); !ok || !again.Equal(at) {
			t.Errorf("%q is %v, and then %v", s, at, again)
		}
		if strings.ContainsAny(s, "0123456789") && len(s) >= 10 && s[4] == '-' && s[7] == '-' {
			if day := at.In(at.Location()).Format("2006-01-02"); !strings.HasPrefix(s, day) {
				t.Errorf("%q is on %s", s, day)
			}
			return
		}
		if at.After(now) {
			t.Errorf("%q is %v, after now", s, at)
		}
	})
}
