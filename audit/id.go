package audit

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"time"
)

// crockford is Crockford's base 32: its order is that of ASCII, and it has no
// letters that look alike.
const crockford = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

// ids makes event ids in the form of ULIDs: 26 characters of Crockford's base
// 32, that is 48 bits of milliseconds since 1970 and 80 random bits. They sort
// by the time of recording; those of one process are strictly ascending, also
// within a millisecond and when the clock steps back. The zero ids is ready.
// Not safe for concurrent use.
type ids struct {
	millis uint64
	high   uint16 // of the random bits
	low    uint64
}

func (g *ids) next(now time.Time) (string, error) {
	millis := now.UnixMilli()
	if millis < 0 || millis >= 1<<48 {
		return "", errors.New("the clock is out of range")
	}
	if uint64(millis) > g.millis {
		var random [10]byte
		rand.Read(random[:]) // never fails (Go 1.24)
		g.millis = uint64(millis)
		g.high = binary.BigEndian.Uint16(random[:]) >> 1 // leaves room to count
		g.low = binary.BigEndian.Uint64(random[2:])
	} else if g.low++; g.low == 0 {
		if g.high++; g.high == 0 {
			return "", errors.New("out of ids for this millisecond")
		}
	}
	return g.text(), nil
}

func (g *ids) text() string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], g.millis<<16|uint64(g.high))
	binary.BigEndian.PutUint64(b[8:], g.low)
	high, low := binary.BigEndian.Uint64(b[:]), binary.BigEndian.Uint64(b[8:])
	var text [26]byte
	for i := len(text) - 1; i >= 0; i-- {
		text[i] = crockford[low&31]
		low = low>>5 | high<<59
		high >>= 5
	}
	return string(text[:])
}
