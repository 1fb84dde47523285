package hub

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"strings"
)

// file brings one file into the snapshot.
func (f *fetcher) file(ctx context.Context, file File) error {
	what := "download " + file.Path
	have, _, err := f.store.have(f.commit, file)
	if err != nil {
		return f.explain(what, err)
	}
	if have {
		return nil
	}
	size, err := f.store.size(path.Join("blobs", file.blob()))
	if err == nil && size != file.Size {
		err = f.blob(ctx, file)
	}
	if err == nil {
		err = f.store.link(f.commit, file)
	}
	if err != nil {
		return f.explain(what, err)
	}
	f.meter.finished()
	return nil
}

// errCorrupt is content that has another hash than was announced.
type errCorrupt struct {
	got     string
	resumed bool // some of it was there before
}

func (e *errCorrupt) Error() string { return "its hash is " + e.got }

// blob downloads what a file holds, trying again where that helps.
func (f *fetcher) blob(ctx context.Context, file File) error {
	// huggingface_hub has this lock while it downloads the same blob.
	lock, err := takeLock(f.store.root, path.Join("hub", ".locks", f.job.folder(), file.blob()+".lock"), "")
	if _, ok := errors.AsType[*heldError](err); ok {
		return fail(KindRunning, "wait for it and pull again", "another program downloads %s already", file.Path)
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	for try, cuts := 1, 0; ; try++ {
		n, err := f.attempt(ctx, file)
		if err == nil {
			return nil
		}
		if corrupt, ok := errors.AsType[*errCorrupt](err); ok {
			if !corrupt.resumed {
				return fail(KindCorrupt, "pull again; if it stays so, do not use it", "%s is not what the hub announces: %s, not %s", file.Path, corrupt.got, file.blob())
			}
			f.meter.note("%s: what was here of it is damaged; it is downloaded anew", file.Path)
			continue
		}
		if n > 0 {
			try, cuts = 1, cuts+1
		}
		if !transient(err) || ctx.Err() != nil || try >= maxTries || cuts > maxCuts {
			return err
		}
		if err := f.pause(ctx, try, fmt.Errorf("%s: %w", file.Path, err)); err != nil {
			return err
		}
	}
}

// attempt downloads the rest of a blob once and returns how many bytes came. A
// blob whose hash is wrong is gone afterwards.
func (f *fetcher) attempt(ctx context.Context, file File) (int64, error) {
	part, err := f.store.open(file)
	if err != nil {
		return 0, err
	}
	defer part.Close()
	sum := newHash(file)
	from, err := io.Copy(sum, part) // what is there is hashed: it was written by anybody
	if err != nil {
		return 0, err
	}
	if from > file.Size {
		if from, err = 0, restart(part, &sum, file); err != nil {
			return 0, err
		}
	}
	resumed := from > 0
	var n int64
	if from < file.Size {
		n, err = f.rest(ctx, file, part, &sum, from)
	}
	if err != nil {
		return n, err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != file.blob() {
		f.meter.found(-file.Size)
		return n, errors.Join(&errCorrupt{got: got, resumed: resumed}, f.store.repo.Remove(incomplete(file)))
	}
	if err := part.Sync(); err != nil {
		return n, err
	}
	return n, f.store.repo.Rename(incomplete(file), path.Join("blobs", file.blob()))
}

// rest asks for a blob from a byte on and writes what comes.
func (f *fetcher) rest(ctx context.Context, file File, part *os.File, sum *hash.Hash, from int64) (int64, error) {
	a, err := f.client.get(ctx, f.address(file), from)
	if err != nil {
		if e, ok := errors.AsType[*statusError](err); ok && e.status == http.StatusRequestedRangeNotSatisfiable {
			f.meter.found(-from)
			return 0, errors.Join(&errCorrupt{got: "unknown", resumed: true}, f.store.repo.Remove(incomplete(file)))
		}
		return 0, err
	}
	defer a.Body.Close()
	if err := f.checkAnswer(a, file, from); err != nil {
		return 0, err
	}
	if a.StatusCode == http.StatusOK && from > 0 {
		f.meter.found(-from) // the range was passed over: all of it comes
		if from, err = 0, restart(part, sum, file); err != nil {
			return 0, err
		}
	}
	n, err := io.Copy(io.MultiWriter(part, *sum, f.meter), io.LimitReader(a.Body, file.Size-from))
	switch {
	case err != nil:
		return n, err
	case n < file.Size-from:
		return n, io.ErrUnexpectedEOF
	}
	return n, nil
}

// checkAnswer compares what the answer says of itself with what was announced.
func (f *fetcher) checkAnswer(a *answer, file File, from int64) error {
	if a.commit != "" && a.commit != f.commit {
		return fail(KindRevision, "", "%s comes of commit %s, not %s", file.Path, printable(a.commit), f.commit)
	}
	if (commitHash().MatchString(a.etag) || sha256Hash().MatchString(a.etag)) && a.etag != file.blob() && a.etag != file.Git {
		return fail(KindCorrupt, "", "%s is announced as %s and comes as %s", file.Path, file.blob(), a.etag)
	}
	if a.StatusCode == http.StatusPartialContent {
		want := fmt.Sprintf("bytes %d-%d/", from, file.Size-1)
		total, ok := strings.CutPrefix(a.Header.Get("Content-Range"), want)
		if !ok || total != fmt.Sprint(file.Size) && total != "*" {
			return fail(KindHub, "", "%s: bytes %d to %d of %d were asked for and %q came", file.Path, from, file.Size-1, file.Size, printable(a.Header.Get("Content-Range")))
		}
		return nil
	}
	if a.ContentLength >= 0 && a.ContentLength != file.Size {
		return fail(KindCorrupt, "", "%s is announced with %d bytes and comes with %d", file.Path, file.Size, a.ContentLength)
	}
	return nil
}

// restart empties a blob whose beginning is of no use.
func restart(part *os.File, sum *hash.Hash, file File) error {
	*sum = newHash(file)
	if err := part.Truncate(0); err != nil {
		return err
	}
	_, err := part.Seek(0, io.SeekStart)
	return err
}

// newHash is the hash that names a file's blob: SHA-256 with LFS, else that of a
// git blob, which begins with its size.
func newHash(file File) hash.Hash {
	if file.LFS != "" {
		return sha256.New()
	}
	h := sha1.New()
	fmt.Fprintf(h, "blob %d\x00", file.Size)
	return h
}

// address is where the hub has a file: /REPO/resolve/COMMIT/PATH.
func (f *fetcher) address(file File) *url.URL {
	parts := strings.Split(file.Path, "/")
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	return f.client.hub.JoinPath(append([]string{f.job.Repo, "resolve", f.commit}, parts...)...)
}
