package audit

import (
	"strings"
	"testing"
	"time"
)

func TestIDs(t *testing.T) {
	var g ids
	last := ""
	for i := range 5000 {
		now := noon.Add(time.Duration(i/100) * time.Millisecond)
		if i%7 == 0 {
			now = now.Add(-time.Hour) // the clock steps back
		}
		id, err := g.next(now)
		if err != nil || len(id) != 26 || id <= last {
			t.Fatalf("id %q after %q, %v", id, last, err)
		}
		last = id
	}
	var a, b ids
	early, _ := a.next(noon)
	late, _ := b.next(noon.Add(time.Millisecond))
	if early >= late {
		t.Errorf("%s does not sort before %s", early, late)
	}
	// 1772366400123 ms, as any ULID library writes it.
	if want := "01KJMMA2KV"; !strings.HasPrefix(early, want) {
		t.Errorf("%s does not start with the time %s", early, want)
	}
	if _, err := g.next(time.Unix(-1, 0)); err == nil {
		t.Error("a time before 1970 was accepted")
	}
	if g.high, g.low = 0xffff, 1<<64-1; true {
		if _, err := g.next(noon); err == nil {
			t.Error("ids started over")
		}
	}
}
