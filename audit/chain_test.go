package audit

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"
)

// The chain's form is documented: others may check it.
func TestHeadNext(t *testing.T) {
	one := sha256.Sum256([]byte(strings.Repeat("\x00", 32) + "\x00\x00\x00\x00\x00\x00\x00\x01" + `{"a":1}`))
	first := Head{}.next([]byte(`{"a":1}`))
	if first.Seq != 1 || first.Hash != one {
		t.Errorf("the first head is %v", first)
	}
	two := sha256.Sum256([]byte(string(one[:]) + "\x00\x00\x00\x00\x00\x00\x00\x02" + `{}`))
	if second := first.next([]byte(`{}`)); second.String() != "2:"+hex.EncodeToString(two[:]) {
		t.Errorf("the second head is %v", second)
	}
}

func TestParseHead(t *testing.T) {
	head := Head{}.next([]byte("x"))
	for _, s := range []string{head.String(), " " + head.String() + "\n", strings.ToUpper(head.String())} {
		if got, err := ParseHead(s); err != nil || got != head {
			t.Errorf("%q: %v, %v", s, got, err)
		}
	}
	if got, err := ParseHead(head.String()[2:]); err != nil || got.Seq != 0 || got.Hash != head.Hash {
		t.Errorf("the hash alone: %v, %v", got, err)
	}
}
