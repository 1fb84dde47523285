package machine

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
)

// uploadScript takes stdin as a new file $1 of mode $2 and prints its size. It
// leaves nothing behind when it fails: writing the size does after a lost link.
const uploadScript = `set -euC
LC_ALL=C
export LC_ALL
umask 077
trap 'rm -f -- "$1"' EXIT
trap 'exit 1' HUP INT PIPE TERM
mkdir -p -- "${1%/*}/"
cat >"$1"
chmod "$2" "$1"
wc -c <"$1"
trap - EXIT`

// renameScript gives upload $1 its name.
const renameScript = `set -eu
LC_ALL=C
export LC_ALL
trap 'rm -f -- "$1"' EXIT
if [ -d "$2" ]; then echo "it is a folder" >&2; exit 1; fi
mv -f -- "$1" "$2"
trap - EXIT`

// Put writes r to a file on the machine, which replaces what path names: whole,
// or not at all. path is absolute; folders that are missing are made, 0700. The
// file is the user's.
func (m *Machine) Put(ctx context.Context, file string, r io.Reader, mode fs.FileMode) error {
	fail := func(err error) error {
		hint := ""
		var sh *ShError
		if errors.As(err, &sh) && (strings.Contains(sh.Stderr, "No space left") || strings.Contains(sh.Stderr, "quota exceeded")) {
			hint = "\nhint: its disk is full, or the user's quota is: free some space there"
		}
		return fmt.Errorf("put %s on %s: %w%s", printable(file), m, err, hint)
	}
	if !path.IsAbs(file) || path.Clean(file) != file || file == "/" || mode&^fs.ModePerm != 0 {
		return fail(errors.New("the path must be absolute and clean, and the mode permission bits"))
	}
	part := path.Join(path.Dir(file), ".sallyport-"+rand.Text())
	sent := &counted{r: r}
	out, err := m.Sh(ctx, uploadScript, sent, part, fmt.Sprintf("%04o", mode))
	if err != nil {
		return fail(err)
	}
	// The end of stdin alone does not prove that all of it came.
	if got := string(bytes.TrimSpace(out)); got != strconv.FormatInt(sent.n.Load(), 10) {
		err = fmt.Errorf("%s of %d bytes came", printable(got), sent.n.Load())
	} else if _, err = m.Sh(ctx, renameScript, nil, part, file); err == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	defer cancel()
	m.Sh(ctx, `rm -f -- "$1"`, nil, part) // the error that counts is err
	return fail(err)
}

// counted counts what was read.
type counted struct {
	r io.Reader
	n atomic.Int64 // a Read may still be under way when the script has ended
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// freeScript asks for the file system of $1, or of the folder that it would be in.
const freeScript = `LC_ALL=C
export LC_ALL
d=$1
while [ ! -d "$d" ]; do d=${d%/*}; d=${d:-/}; done
df -Pk -- "$d"`

// freeLine is df's last line: file system, size, used, available, in KiB (POSIX df -Pk).
var freeLine = regexp.MustCompile(`\s[0-9]+ +[0-9]+ +(-?[0-9]{1,15}) +(?:[0-9]+%|-) +/[^\n]*\n?$`)

// DiskFree is the free space that the user may use, in bytes, of the file system
// that has path or, if that is missing, the nearest folder above it.
func (m *Machine) DiskFree(ctx context.Context, file string) (int64, error) {
	if !path.IsAbs(file) {
		return 0, fmt.Errorf("ask %s for free space at %q: the path must be absolute", m, file)
	}
	out, err := m.Sh(ctx, freeScript, nil, file)
	if err != nil {
		return 0, fmt.Errorf("ask %s for free space at %s: %w", m, printable(file), err)
	}
	found := freeLine.FindSubmatch(out)
	if found == nil {
		return 0, fmt.Errorf("ask %s for free space at %s: df says %q", m, printable(file), lastLines(out))
	}
	kib, err := strconv.ParseInt(string(found[1]), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("ask %s for free space at %s: %w", m, printable(file), err)
	}
	return max(0, kib) << 10, nil
}
