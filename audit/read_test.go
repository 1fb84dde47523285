package audit

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"
)

func TestFilterMatch(t *testing.T) {
	e := Event{Time: noon, Subject: Subject{Sandbox: "s1", Agent: "claude", Project: "/p"}, Layer: LayerDNS, Verdict: "denied"}
	allowed := e
	allowed.Verdict = "allowed"
	tests := []struct {
		name string
		f    Filter
		e    Event
		want bool
	}{
		{"zero", Filter{}, e, true},
		{"since, the same instant", Filter{Since: noon}, e, true},
		{"since, later", Filter{Since: noon.Add(1)}, e, false},
		{"until, the same instant", Filter{Until: noon}, e, false},
		{"until, later", Filter{Until: noon.Add(time.Second)}, e, true},
		{"sandbox", Filter{Sandbox: "s1"}, e, true},
		{"other sandbox", Filter{Sandbox: "s"}, e, false},
		{"project", Filter{Project: "/p"}, e, true},
		{"other project", Filter{Project: "/q"}, e, false},
		{"layer", Filter{Layer: LayerDNS}, e, true},
		{"other layer", Filter{Layer: LayerModel}, e, false},
		{"denied", Filter{Denied: true}, e, true},
		{"denied, allowed event", Filter{Denied: true}, allowed, false},
		{"denied, no verdict", Filter{Denied: true}, Event{}, true},
		{"other agents out", Filter{NotAgents: []string{"verify"}}, e, true},
		{"this agent out", Filter{NotAgents: []string{"verify", "claude"}}, e, false},
	}
	for _, tt := range tests {
		if got := tt.f.Match(tt.e); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}

func readString(t testing.TB, data string) (ids []string, damaged int) {
	t.Helper()
	err := read(t.Context(), "log", strings.NewReader(data), Filter{}, func(e Event) error {
		ids = append(ids, e.ID)
		return nil
	})
	if d, ok := errors.AsType[*DamagedError](err); ok {
		return ids, d.Lines
	}
	if err != nil {
		t.Error(err)
	}
	return ids, 0
}

func TestReadDamaged(t *testing.T) {
	a := `{"time":"2026-03-01T12:00:00Z","id":"A"}`
	b := `{"time":"2026-03-01T12:00:01Z","id":"B"}`
	tests := []struct {
		name, data string
		ids        string
		damaged    int
	}{
		{"empty", "", "", 0},
		{"two", a + "\n" + b + "\n", "AB", 0},
		{"no last newline", a + "\n" + b, "AB", 0},
		{"blank lines", "\n" + a + "\n\n" + b + "\n\n", "AB", 0},
		{"torn in between", a + "\n" + b[:20] + "\n" + b + "\n", "AB", 1},
		{"torn at the end", a + "\n" + b[:20], "A", 1},
		{"glued to a torn one", a[:20] + b + "\n", "B", 1},
		{"glued to a torn start", a[:7] + b + "\n" + a, "BA", 1},
		{"two in one line", a + b + "\n", "B", 1},
		{"zeros, as after power loss", a + "\n" + strings.Repeat("\x00", 5000) + "\n" + b, "AB", 1},
		{"other JSON", "17\nnull\n{}\n[]\n" + a, "A", 4},
		{"endless line", strings.Repeat("x", 3*maxLine) + "\n" + a, "A", 1},
		{"glued to an endless line", strings.Repeat("x", 3*maxLine) + a + "\n" + b, "AB", 1},
		{"the start inside of a string", `{"time":"2026-03-01T12:00:00Z","id":"A","host":"{\"time\":\""}`, "A", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ids, damaged := readString(t, tt.data)
			if got := strings.Join(ids, ""); got != tt.ids || damaged != tt.damaged {
				t.Errorf("ids %q, %d damaged; want %q, %d", got, damaged, tt.ids, tt.damaged)
			}
		})
	}
}

// Times are looked at before a line is decoded; the outcome is the same.
func TestReadSince(t *testing.T) {
	old := `{"time":"2026-03-01T11:00:00Z","id":"old"}`
	data := old + "\n" + old[:30] + strings.Replace(old, "T11:00:00Z\",\"id\":\"old", "T12:30:00Z\",\"id\":\"new", 1) + "\n" + old[:20] + "\n"
	var ids []string
	err := read(t.Context(), "log", strings.NewReader(data), Filter{Since: noon}, func(e Event) error {
		ids = append(ids, e.ID)
		return nil
	})
	if d, ok := errors.AsType[*DamagedError](err); !ok || d.Lines != 2 || len(ids) != 1 || ids[0] != "new" {
		t.Errorf("ids %q, %v", ids, err)
	}
}

func TestReadLineBounded(t *testing.T) {
	r := bufio.NewReaderSize(strings.NewReader(strings.Repeat("x", 8*maxLine)+"\n"), 64<<10)
	line, err := readLine(r, nil)
	if err != nil || cap(line) > 3*maxLine {
		t.Errorf("%d bytes held, %v", cap(line), err)
	}
}

func TestReadErrors(t *testing.T) {
	path := logPath(t)
	if err := Read(t.Context(), path, Filter{}, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if err := os.WriteFile(path, []byte(`{"time":"2026-03-01T12:00:00Z"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	enough := errors.New("enough")
	if err := Read(t.Context(), path, Filter{}, func(Event) error { return enough }); err != enough {
		t.Errorf("error of each: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Read(ctx, path, Filter{}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// Whatever is in the file, reading ends, and an event after it is found.
func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"time":"2026-03-01T12:00:00Z","id":"A"}` + "\n"))
	f.Add([]byte(`{"time":"2026-03-01T12:`))
	f.Add([]byte("\x00\n\n{}\nnull"))
	f.Fuzz(func(t *testing.T, data []byte) {
		data = append(bytes.Clone(data), "\n"+`{"time":"2026-03-01T12:00:00Z","id":"last"}`+"\n"...)
		ids, _ := readString(t, string(data))
		if len(ids) == 0 || ids[len(ids)-1] != "last" {
			t.Errorf("ids %q", ids)
		}
	})
}

func BenchmarkRead(b *testing.B) {
	line, err := Encode(Event{
		Time: noon, ID: "01KJMGEJW00000000000000000", Subject: Subject{"s1", "claude", "gpt-oss", "/home/u/p"}, Layer: LayerDNS, Proto: "udp",
		Src: "10.213.0.1:5353", Dst: "203.0.113.53:53", Host: "api.example.com", Port: 53, Method: "A", Verdict: "denied", Reason: "not looked up", Count: 1,
	})
	if err != nil {
		b.Fatal(err)
	}
	data := bytes.Repeat(line, 1000)
	for name, f := range map[string]Filter{"all": {}, "none": {Since: noon.Add(time.Hour)}} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if err := read(b.Context(), "", bytes.NewReader(data), f, func(Event) error { return nil }); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)*1000/b.Elapsed().Seconds(), "events/s")
		})
	}
}
