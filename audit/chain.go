package audit

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Head names the last event of the chain: whoever knows it can tell whether
// everything up to there is as it was. The zero Head is that of an empty chain.
type Head struct {
	Seq  int64
	Hash [sha256.Size]byte
}

// String is as "SEQ:HEX", the hash in 64 digits.
func (h Head) String() string {
	return strconv.FormatInt(h.Seq, 10) + ":" + hex.EncodeToString(h.Hash[:])
}

// ParseHead reads what String gives, or the hash alone (Seq is zero then).
func ParseHead(s string) (Head, error) {
	var h Head
	digits := strings.TrimSpace(s)
	if seq, hash, both := strings.Cut(digits, ":"); both {
		n, err := strconv.ParseInt(seq, 10, 64)
		if err != nil || n < 0 {
			return Head{}, fmt.Errorf("head %.100q: %.40q is not an event's number\nhint: a head is as 1234:9f86…, with 64 digits", s, seq)
		}
		h.Seq, digits = n, hash
	}
	hash, err := hex.DecodeString(digits)
	if err == nil && len(hash) != len(h.Hash) {
		err = errors.New("not 64 digits")
	}
	if err != nil {
		return Head{}, fmt.Errorf("head %.100q: %w\nhint: a head is as 1234:9f86…, with 64 digits", s, err)
	}
	copy(h.Hash[:], hash)
	return h, nil
}

// next returns the head after an event with this body:
// SHA-256(hash ‖ its number, 8 bytes, big endian ‖ body).
func (h Head) next(body []byte) Head {
	return h.nextOf(append(h.prefix(make([]byte, 0, prefixSize+len(body))), body...))
}

// prefixSize is how many bytes of what is hashed stand before a body.
const prefixSize = sha256.Size + 8

// prefix appends what is hashed before the next event's body.
func (h Head) prefix(b []byte) []byte {
	return binary.BigEndian.AppendUint64(append(b, h.Hash[:]...), uint64(h.Seq+1))
}

// nextOf is next of what stands in buf after the prefix.
func (h Head) nextOf(buf []byte) Head {
	return Head{Seq: h.Seq + 1, Hash: sha256.Sum256(buf)}
}
