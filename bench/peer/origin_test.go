package peer

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/bench/load"
)

// Events are due at the times that were said, whenever the request comes.
func TestPace(t *testing.T) {
	for name, c := range map[string]struct {
		pace
		now  []int64
		want []time.Duration
	}{
		"at once":          {now: []int64{100, 100}, want: []time.Duration{0, 0}},
		"from the request": {pace: pace{every: 10}, now: []int64{100, 110, 121}, want: []time.Duration{10, 10, 9}},
		"as was said":      {pace: pace{next: 105, every: 10}, now: []int64{30, 106, 115}, want: []time.Duration{75, 9, 10}},
		"late, and not made up for": {pace: pace{next: 105, every: 10}, now: []int64{131, 131, 141},
			want: []time.Duration{-26, 4, 4}},
	} {
		for i, now := range c.now {
			if got := c.left(now); got != c.want[i] {
				t.Errorf("%s: at %d it is %d, not %d", name, now, got, c.want[i])
			}
		}
	}
}

// No event comes before it is due.
func TestOriginKeepsToTheScript(t *testing.T) {
	now, err := load.Monotonic()
	if err != nil {
		t.Fatal(err)
	}
	s := load.Script{Deltas: 3, Every: time.Millisecond, First: now + 20e6}
	r := httptest.NewRequest("POST", "/v1/messages", nil)
	if err := s.Set(r.Header); err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	answerStream(w, r)
	deltas := strings.Split(w.Body.String(), `"text_delta","text":"`)[1:]
	if len(deltas) != s.Deltas {
		t.Fatalf("%d deltas: %s", len(deltas), w.Body)
	}
	for i, d := range deltas {
		var n int
		var sent int64
		if _, err := fmt.Sscan(d, &n, &sent); err != nil || n != i || sent < s.First+int64(i)*int64(s.Every) {
			t.Errorf("delta %d was sent at %d, the first one is due at %d: %v", n, sent, s.First, err)
		}
	}
}
