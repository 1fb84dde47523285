package load

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
)

// What the far end of a measured way does with a connection. The one that connects
// sends a Call; see the constants for what follows.
const (
	CallEcho   = 'e' // everything comes back, until the caller ends
	CallSource = 's' // Length bytes of Pattern(Seed) come
	CallSink   = 'd' // the caller sends Length bytes of Pattern(Seed); SinkTaken comes back
)

// SinkTaken says that all bytes have come, and were the right ones.
const SinkTaken = 'k'

// CallSize is the size of a Call on the wire, in bytes.
const CallSize = 17

// Call is the start of a connection to the far end.
type Call struct {
	Kind   byte
	Seed   uint64 // of the bytes that pass; each stream has its own, so that mixed up ones are seen
	Length uint64 // in bytes; without a meaning for CallEcho
}

// AppendTo appends the Call as it is sent.
func (c Call) AppendTo(b []byte) []byte {
	b = append(b, c.Kind)
	b = binary.BigEndian.AppendUint64(b, c.Seed)
	return binary.BigEndian.AppendUint64(b, c.Length)
}

// ReadCall reads a Call.
func ReadCall(r io.Reader) (Call, error) {
	var b [CallSize]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return Call{}, fmt.Errorf("read a call: %w", err)
	}
	c := Call{Kind: b[0], Seed: binary.BigEndian.Uint64(b[1:]), Length: binary.BigEndian.Uint64(b[9:])}
	switch c.Kind {
	case CallEcho, CallSource, CallSink:
		return c, nil
	}
	return Call{}, fmt.Errorf("a call of kind %q, which there is not", c.Kind)
}

// patternSize is of the block that a Pattern repeats. It is no multiple of any
// buffer's size: a buffer that is lost or doubled does not go unseen.
const patternSize = 256<<10 - 17

// Pattern is a sequence of bytes, the same for the same seed, without an end.
type Pattern struct {
	block []byte
	at    int
}

// NewPattern begins the sequence of seed.
func NewPattern(seed uint64) *Pattern {
	var key [32]byte
	binary.BigEndian.PutUint64(key[:], seed)
	p := &Pattern{block: make([]byte, patternSize)}
	_, _ = rand.NewChaCha8(key).Read(p.block) // never fails
	return p
}

// Next is a piece of what comes next, of at most n bytes, at least one if n is. It
// is only to be read.
func (p *Pattern) Next(n int) []byte {
	piece := p.block[p.at:min(p.at+n, len(p.block))]
	p.at = (p.at + len(piece)) % len(p.block)
	return piece
}

var errOther = errors.New("other bytes came than were sent")

// Check says whether b is what comes next.
func (p *Pattern) Check(b []byte) error {
	for len(b) > 0 {
		want := p.Next(len(b))
		if string(b[:len(want)]) != string(want) {
			return errOther
		}
		b = b[len(want):]
	}
	return nil
}

// Send writes n bytes of the sequence.
func (p *Pattern) Send(w io.Writer, n uint64) error {
	for n > 0 {
		sent, err := w.Write(p.Next(int(min(n, bulkBuffer))))
		if err != nil {
			return err
		}
		n -= uint64(sent)
	}
	return nil
}

// Take reads n bytes, which must be the sequence's.
func (p *Pattern) Take(r io.Reader, n uint64) error {
	buf := make([]byte, bulkBuffer)
	for n > 0 {
		got, err := r.Read(buf[:min(n, bulkBuffer)])
		if wrong := p.Check(buf[:got]); wrong != nil {
			return wrong
		}
		n -= uint64(got)
		if err == io.EOF && n > 0 {
			return fmt.Errorf("%d bytes are missing: %w", n, io.ErrUnexpectedEOF)
		}
		if err != nil && err != io.EOF {
			return err
		}
	}
	return nil
}

// bulkBuffer is what is written or read at a time, in bytes.
const bulkBuffer = 64 << 10
