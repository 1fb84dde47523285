package containers

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
)

func TestDemultiplex(t *testing.T) {
	for _, c := range []struct {
		name, from, out, errOut string
		err                     string // part of it
	}{
		{"nothing", "", "", "", ""},
		{"both", frame(1, "a") + frame(2, "b") + frame(1, "") + frame(1, "c"), "ac", "b", ""},
		{"what was typed", frame(0, "a"), "a", "", ""},
		{"larger than a piece", frame(2, strings.Repeat("x", 100_000)), "", strings.Repeat("x", 100_000), ""},
		{"the engine's own trouble", frame(1, "a") + frame(3, "b"), "a", "", "stream 3"},
		{"no such stream", frame(255, "a"), "", "", "stream 255"},
		{"cut in a header", frame(1, "a") + "\x01\x00", "a", "", io.ErrUnexpectedEOF.Error()},
		{"cut after a header", frame(1, "a")[:8], "", "", io.ErrUnexpectedEOF.Error()},
		{"cut in a frame", frame(1, "abc")[:10], "ab", "", io.ErrUnexpectedEOF.Error()},
	} {
		var out, errOut bytes.Buffer
		err := demultiplex(&out, &errOut, strings.NewReader(c.from))
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) || out.String() != c.out || errOut.String() != c.errOut {
			t.Errorf("%s: %.40q, %.40q, %v", c.name, &out, &errOut, err)
		}
	}
}

// An engine that announces 4 GiB gets no memory for it.
func TestDemultiplexBelievesNoSize(t *testing.T) {
	header := string([]byte{1, 0, 0, 0, 255, 255, 255, 255})
	var before, after runtime.MemStats
	var out bytes.Buffer
	runtime.ReadMemStats(&before)
	err := demultiplex(&out, io.Discard, strings.NewReader(header+"abc"))
	runtime.ReadMemStats(&after)
	if !errors.Is(err, io.ErrUnexpectedEOF) || out.String() != "abc" {
		t.Errorf("%q, %v", &out, err)
	}
	if made := after.TotalAlloc - before.TotalAlloc; made > 1<<20 {
		t.Errorf("%d bytes were allocated for 3", made)
	}
}

func TestDemultiplexEndsWithItsWriter(t *testing.T) {
	r, w := io.Pipe()
	gone := errors.New("gone")
	if err := r.CloseWithError(gone); err != nil {
		t.Fatal(err)
	}
	if err := demultiplex(w, io.Discard, strings.NewReader(frame(1, "abc"))); !errors.Is(err, gone) {
		t.Errorf("got %v", err)
	}
}

// FuzzDemultiplex takes frames apart a second way.
func FuzzDemultiplex(f *testing.F) {
	for _, s := range []string{"", frame(1, "a"), frame(2, "b") + frame(0, "c"), frame(3, "d"), "\x01\x00\x00\x00\xff\xff\xff\xffx", frame(1, "e")[:3]} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var got, want [2]bytes.Buffer
		err := demultiplex(&got[0], &got[1], bytes.NewReader(data))
		whole, rest := true, data
		for len(rest) > 0 && whole {
			if len(rest) < 8 || rest[0] > 2 {
				whole = false
				break
			}
			size := uint64(binary.BigEndian.Uint32(rest[4:8]))
			stream := &want[rest[0]/2]
			rest = rest[8:]
			whole = size <= uint64(len(rest))
			n := min(size, uint64(len(rest)))
			stream.Write(rest[:n])
			rest = rest[n:]
		}
		if whole != (err == nil) || !bytes.Equal(got[0].Bytes(), want[0].Bytes()) || !bytes.Equal(got[1].Bytes(), want[1].Bytes()) {
			t.Errorf("%q, %q, %v; want %q, %q, whole %v", &got[0], &got[1], err, &want[0], &want[1], whole)
		}
	})
}
