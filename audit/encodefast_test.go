package audit

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// A line is, byte by byte, what the library and the escaping after it give.
func sameAsLibrary(t *testing.T, e Event) {
	t.Helper()
	want, wantErr := encodeByLibrary(e)
	got, err := appendBody([]byte("before"), &e)
	if (err != nil) != (wantErr != nil) || err == nil && string(got) != "before"+string(want) {
		t.Fatalf("%+v\ngot  %s, %v\nwant %s, %v", e, got, err, want, wantErr)
	}
}

func TestEncodeIsTheLibrarys(t *testing.T) {
	r := random{rand.New(rand.NewPCG(3, 4))}
	for range 2000 {
		sameAsLibrary(t, r.event())
	}
	odd := []string{"", "plain", "a\x7f", "quo\"te", `back\slash`, "\b\f\n\r\t\x00\x1f\x7f\x80", "<&>", "\u2028\u2029\u202e\u200b\u0301", "ü€😀\U0010ffff\ue000", "\xff\xfe a \xc3", "\ufffd"}
	for _, s := range odd {
		e := Event{Time: noon, Process: &Process{Exe: s, Command: s, Unknown: s, Parents: []Parent{{1, s}, {}}}, Open: true, About: true, First: noon, Last: noon.Local()}
		for _, p := range texts(&e) {
			*p = s
		}
		e.Layer = Layer(s)
		sameAsLibrary(t, e)
	}
	for _, f := range []float64{0, math.Copysign(0, -1), 1, -1, 1e-6, 9.99e-7, 1e-9, 1e20, 1e21, 1e300, 0.1, math.MaxFloat64, math.SmallestNonzeroFloat64, math.NaN(), math.Inf(1), math.Inf(-1)} {
		sameAsLibrary(t, Event{Time: noon, Duration: f})
		sameAsLibrary(t, Event{Time: noon, FirstToken: f})
		sameAsLibrary(t, Event{Time: noon, TokensPerSecond: f, BytesIn: math.MinInt64, BytesOut: math.MaxInt64, Status: -1, Port: math.MaxUint16})
	}
	for _, at := range []time.Time{{}, time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC), noon.In(time.FixedZone("", 3600*25)), noon.In(time.FixedZone("", -5400))} {
		sameAsLibrary(t, Event{Time: at, First: at})
	}
	sameAsLibrary(t, Event{Time: noon, Process: &Process{Parents: []Parent{}}})
}

func FuzzEncodeIsTheLibrarys(f *testing.F) {
	f.Add("a.example", "\x7f\u202e\xff", 0.25, int64(1), uint16(443), int64(1772366400123456789))
	f.Fuzz(func(t *testing.T, host, text string, number float64, count int64, port uint16, nanos int64) {
		e := Event{
			Time: time.Unix(0, nanos).UTC(), Host: host, Reason: text, Duration: number, FirstToken: number, Count: count, Port: port, Lost: count,
			Layer: Layer(text), Process: &Process{PID: int(count), Exe: host, Command: text, Parents: []Parent{{int(port), text}}},
		}
		sameAsLibrary(t, e)
		sameAsLibrary(t, bound(e))
	})
}

// What each event costs on its way to the database is allocated once, or not at
// all.
func TestAppendAllocates(t *testing.T) {
	e, buf := benchEvent(1), make([]byte, 0, 1024)
	e.Time, e.ID = noon, "01KJMGEJW00000000000000000"
	for name, do := range map[string]func(){
		"encode": func() { buf, _ = appendBody(Head{}.prefix(buf[:0]), &e) },
		"hash":   func() { Head{}.nextOf(buf) },
		"key":    func() { e.Host = "a.example"; keyOf(e) },
	} {
		if n := testing.AllocsPerRun(100, do); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	query := benchName(1)
	if n := testing.AllocsPerRun(100, func() { complete(query, noon) }); n != 0 {
		t.Errorf("to complete a query's event: %v allocations", n)
	}
}
