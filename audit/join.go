package audit

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"math"
	"net/netip"
	"time"
)

// Identical refusals are joined within joinWindow of the first. At most
// maxWindows are remembered, and their repeats' events in maxWindowBytes; beyond
// that the oldest ends early.
const (
	joinWindow     = 30 * time.Second
	maxWindows     = 4096
	maxWindowBytes = 16 << 20
)

// joinKey is the same for identical refusals.
type joinKey [sha256.Size]byte

// joinable says whether e may be joined with others: a refusal, of something
// that is known by more than its number.
func joinable(e Event) bool {
	return e.Denied() && e.Lost == 0 && e.RepeatOf == ""
}

// keyOf is of all that makes a refusal another one: not of when, from which
// port, how long and how much.
func keyOf(e Event) joinKey {
	host, port := e.Host, e.Port
	if host == "" || port == 0 {
		if to, err := netip.ParseAddrPort(e.Dst); err == nil {
			host, port = cmp.Or(host, to.Addr().String()), cmp.Or(port, to.Port())
		}
	}
	// Dst as well as the host, which may be the container's own claim: it must not
	// hide an attempt among those at another address.
	var room [1024]byte // most often enough, and on the stack
	buf := appendTexts(room[:0], e.Sandbox, e.Agent, e.Model, e.Project, string(e.Layer), e.Proto,
		e.Dst, cmp.Or(host, e.Dst), e.SNI, e.Method, e.Path, e.Rule, e.Reason, e.Session)
	buf = binary.BigEndian.AppendUint16(buf, port)
	buf = binary.AppendVarint(buf, int64(e.Status))
	if p := e.Process; p != nil {
		buf = binary.AppendVarint(append(buf, 1), int64(p.PID))
		buf = binary.AppendVarint(buf, int64(p.UID))
		buf = appendTexts(buf, p.Exe, p.Command, p.Unknown)
		for _, parent := range p.Parents {
			buf = appendTexts(binary.AppendVarint(buf, int64(parent.PID)), parent.Name)
		}
	}
	return sha256.Sum256(buf)
}

// appendTexts appends each text with its length before it.
func appendTexts(buf []byte, texts ...string) []byte {
	for _, s := range texts {
		buf = append(binary.AppendUvarint(buf, uint64(len(s))), s...)
	}
	return buf
}

// window is the time in which refusals with one key are joined.
type window struct {
	key    joinKey
	first  string    // id of the event that began it
	opened time.Time // with the monotonic clock

	repeats *Event // nil: there are none
	size    int    // of the repeats, about, in bytes
	stored  bool   // the database has a row of them
	dirty   bool   // they changed since it was written
	changed bool   // they changed since subscribers were told
	ended   bool   // they are part of the chain
}

// add counts e among the repeats. id is theirs if e is the first of them.
func (w *window) add(e Event, id string) {
	w.dirty, w.changed = true, true
	r := w.repeats
	if r == nil {
		r = new(Event) // not &e: that would cost each repeat an allocation
		*r = e
		w.repeats = r
		r.ID, r.RepeatOf, r.First, r.Last = id, w.first, e.Time, e.Time
		w.size = sizeOf(e)
		return
	}
	r.Count = sum(r.Count, e.Count)
	r.BytesIn, r.BytesOut = sum(r.BytesIn, e.BytesIn), sum(r.BytesOut, e.BytesOut)
	r.TokensIn, r.TokensOut = sum(r.TokensIn, e.TokensIn), sum(r.TokensOut, e.TokensOut)
	r.Duration += e.Duration
	if e.Time.Before(r.First) {
		r.First, r.Time = e.Time, e.Time
	}
	if e.Time.After(r.Last) {
		r.Last = e.Time
	}
	if r.Src != e.Src {
		r.Src = "" // they came from several ports
	}
}

// sum stops at the largest number rather than becoming negative.
func sum(a, b int64) int64 {
	if b > 0 && a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

// sizeOf is about how much memory e takes, in bytes.
func sizeOf(e Event) int {
	n := 1024
	for _, s := range texts(&e) {
		n += len(*s)
	}
	return n
}

// windows are those that are open, the oldest first. Not safe for concurrent
// use.
type windows struct {
	byKey map[joinKey]*window
	order []*window
	rows  int // how many have repeats
	size  int // of their repeats, in bytes
}

func (ws *windows) find(key joinKey) *window { return ws.byKey[key] }

func (ws *windows) begin(key joinKey, first string, now time.Time) {
	if ws.byKey == nil {
		ws.byKey = map[joinKey]*window{}
	}
	w := &window{key: key, first: first, opened: now}
	ws.byKey[key] = w
	ws.order = append(ws.order, w)
}

// add counts e among w's repeats.
func (ws *windows) add(w *window, e Event, id string) {
	before := w.size
	w.add(e, id)
	ws.size += w.size - before
	if before == 0 {
		ws.rows++
	}
}

// over returns the oldest window if its time is up at now, or there are too
// many, and takes it out; nil: none is over.
func (ws *windows) over(now time.Time) *window {
	if len(ws.order) == 0 {
		return nil
	}
	w := ws.order[0]
	if now.Sub(w.opened) < joinWindow && len(ws.order) <= maxWindows && ws.size <= maxWindowBytes {
		return nil
	}
	return ws.pop()
}

// pop takes out the oldest window; nil: there is none.
func (ws *windows) pop() *window {
	if len(ws.order) == 0 {
		return nil
	}
	w := ws.order[0]
	ws.order[0] = nil // for the garbage collector
	ws.order = ws.order[1:]
	delete(ws.byKey, w.key)
	ws.size -= w.size
	if w.size > 0 {
		ws.rows--
	}
	return w
}
