package containers

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// An image is named after a binary's hash, so no other binary may get into it.
func TestHelperIsTheBinaryThatWasHashed(t *testing.T) {
	sum := sha256.Sum256([]byte("program"))
	var packed bytes.Buffer
	if err := packHelper(&packed, strings.NewReader("another"), 7, hex.EncodeToString(sum[:])); !errors.Is(err, errOtherBinary) {
		t.Error(err)
	}
	if bytes.HasSuffix(packed.Bytes(), make([]byte, 1024)) {
		t.Error("the archive has the two zero blocks of an end (pax, ustar)")
	}
}

func TestEnsureHelperOfAnother(t *testing.T) {
	imported := 0
	e := fakeEngine{"POST /images/create": func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err == nil {
			imported++
		}
	}}.open(t)
	binary := filepath.Join(t.TempDir(), "gateway")
	if err := os.WriteFile(binary, []byte("program"), 0o755); err != nil {
		t.Fatal(err)
	}
	tag, err := e.EnsureHelper(t.Context(), binary)
	if err != nil || imported != 1 {
		t.Fatalf("%q, %v, imported %d times", tag, err, imported)
	}
	sum := sha256.Sum256([]byte("program"))
	if same, err := e.EnsureHelperOf(t.Context(), binary, hex.EncodeToString(sum[:])); err != nil || same != tag || imported != 2 {
		t.Errorf("%q instead of %q, %v", same, tag, err)
	}
	if _, err := e.EnsureHelperOf(t.Context(), binary, strings.Repeat("0", 64)); !errors.Is(err, errOtherBinary) || imported != 2 {
		t.Errorf("%v, imported %d times", err, imported)
	}
}
