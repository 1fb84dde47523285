package battery

import (
	"bytes"
	"testing"

	"github.com/sallyport/sallyport/terminal"
)

func TestEscapes(t *testing.T) {
	var raw, shown bytes.Buffer
	if err := WriteEscapes(&raw); err != nil {
		t.Fatal(err)
	}
	if found, err := EscapesIn(raw.String()); err != nil || len(found) != len(escapes) {
		t.Errorf("without a filter: %q, %v", found, err)
	}
	filter := terminal.NewFilter(&shown)
	for _, b := range raw.Bytes() { // cut at each place
		if _, err := filter.Write([]byte{b}); err != nil {
			t.Fatal(err)
		}
	}
	if found, err := EscapesIn(shown.String()); err != nil || len(found) > 0 {
		t.Errorf("with a filter: %q, %v", found, err)
	}
	if _, err := EscapesIn("before the escapes"); err == nil {
		t.Error("what was cut off is taken")
	}
}
