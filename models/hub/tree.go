package hub

import (
	"context"
	"encoding/json"
	"io/fs"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds on what the hub may announce.
const (
	maxFiles    = 20_000
	maxPages    = 400
	maxPage     = 16 << 20 // bytes of a page of the list of files
	maxPath     = 1024     // bytes of a path
	maxSegment  = 255      // bytes of its parts, NAME_MAX
	maxDepth    = 16       // parts of a path
	maxFileSize = 16 << 40
	maxRepoSize = 64 << 40
)

// File is a file of a repository, as the hub announces it.
type File struct {
	Path string
	Size int64
	Git  string // SHA-1 of its git blob; of an LFS file: of its pointer
	LFS  string // SHA-256 of what it holds; empty: it is a file of git's own
}

// blob is the name of what it holds in the cache's folder blobs.
func (f File) blob() string {
	if f.LFS != "" {
		return f.LFS
	}
	return f.Git
}

// treeEntry is one of GET /api/models/REPO/tree/REVISION, as RepoFile of
// huggingface_hub src/huggingface_hub/hf_api.py@ee0a451 reads it. Fields that are
// not used are left out, and new ones do no harm.
type treeEntry struct {
	Type string `json:"type"`
	OID  string `json:"oid"`
	Size int64  `json:"size"`
	Path string `json:"path"`
	LFS  *struct {
		OID  string `json:"oid"`
		Size int64  `json:"size"`
	} `json:"lfs"`
}

// parseTree reads one page. Nothing in it is trusted.
func parseTree(page []byte) ([]File, error) {
	var entries []treeEntry
	if err := json.Unmarshal(page, &entries); err != nil {
		return nil, fail(KindHub, "", "the hub's list of files cannot be read: %s", printable(err.Error()))
	}
	var files []File
	for _, e := range entries {
		if e.Type != "file" {
			continue
		}
		f := File{Path: e.Path, Size: e.Size, Git: e.OID}
		if e.LFS != nil {
			f.LFS, f.Size = e.LFS.OID, e.LFS.Size
		}
		if err := f.check(e.LFS != nil); err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	return files, nil
}

// check refuses a file that could lie, or come to lie, elsewhere than in its
// snapshot, or whose content could not be checked.
func (f File) check(lfs bool) error {
	switch {
	case !safePath(f.Path):
		return fail(KindHub, "", "the hub announces a file named %q", printable(f.Path))
	case f.Size < 0 || f.Size > maxFileSize:
		return fail(KindHub, "", "the hub announces %q with a size of %d bytes", printable(f.Path), f.Size)
	case !commitHash().MatchString(f.Git) || lfs && !sha256Hash().MatchString(f.LFS):
		return fail(KindHub, "", "the hub announces %q without a hash", printable(f.Path))
	}
	return nil
}

func safePath(p string) bool {
	if len(p) > maxPath || !fs.ValidPath(p) || p == "." || !utf8.ValidString(p) ||
		strings.ContainsFunc(p, func(r rune) bool { return r == '\\' || !unicode.IsPrint(r) }) {
		return false
	}
	parts := strings.Split(p, "/")
	return len(parts) <= maxDepth && !slices.ContainsFunc(parts, func(s string) bool { return len(s) > maxSegment })
}

// checkTree refuses a list in which two files claim the same place.
func checkTree(files []File) error {
	seen := make(map[string]bool, len(files))
	var total int64
	for _, f := range files {
		if seen[f.Path] {
			return fail(KindHub, "", "the hub announces %q twice", printable(f.Path))
		}
		seen[f.Path] = true
		total += f.Size
		if total > maxRepoSize {
			return fail(KindHub, "", "the hub announces more than %d bytes", int64(maxRepoSize))
		}
	}
	for _, f := range files {
		for at := range len(f.Path) {
			if f.Path[at] == '/' && seen[f.Path[:at]] {
				return fail(KindHub, "", "the hub announces %q both as a file and as a folder", printable(f.Path[:at]))
			}
		}
	}
	return nil
}

// revision asks which commit the wanted revision is.
func (c *client) revision(ctx context.Context, w Want) (string, error) {
	a, err := c.get(ctx, c.hub.JoinPath("api", "models", w.Repo, "revision", url.PathEscape(w.revision())), 0)
	if err != nil {
		return "", err
	}
	data, err := body(a, maxPage)
	if err != nil {
		return "", err
	}
	var info struct {
		SHA string `json:"sha"`
	}
	if err := json.Unmarshal(data, &info); err != nil || !commitHash().MatchString(info.SHA) {
		return "", fail(KindHub, "is hub.endpoint a hub?", "%s does not say which commit %s of %s is", printable(c.hub.Host), w.revision(), w.Repo)
	}
	if w.pinned() && info.SHA != w.Revision {
		return "", fail(KindRevision, "do not use it: a pinned commit cannot change", "the hub answers commit %s where %s is pinned", info.SHA, w.Revision)
	}
	return info.SHA, nil
}

// tree lists all files of a commit, page by page.
func (c *client) tree(ctx context.Context, w Want, commit string) ([]File, error) {
	next := c.hub.JoinPath("api", "models", w.Repo, "tree", commit)
	next.RawQuery = "recursive=true&expand=false"
	var files []File
	for range maxPages {
		a, err := c.get(ctx, next, 0)
		if err != nil {
			return nil, err
		}
		link := a.Header.Get("Link")
		data, err := body(a, maxPage)
		if err != nil {
			return nil, err
		}
		page, err := parseTree(data)
		if err != nil {
			return nil, err
		}
		if files = append(files, page...); len(files) > maxFiles {
			return nil, fail(KindHub, "", "the hub announces more than %d files", maxFiles)
		}
		if next = c.nextPage(next, link); next == nil {
			return files, checkTree(files)
		}
	}
	return nil, fail(KindHub, "", "the hub's list of files has more than %d pages", maxPages)
}

// nextPage is the address of rel="next" of a Link header (RFC 8288), if it is one
// of the hub's own; nil: there is none. A mirror may name the hub that it mirrors,
// so only the query is taken over.
func (c *client) nextPage(current *url.URL, link string) *url.URL {
	for part := range strings.SplitSeq(link, ",") {
		target, params, ok := strings.Cut(strings.TrimSpace(part), ">")
		if !ok || !strings.HasPrefix(target, "<") || !strings.Contains(params, `rel="next"`) {
			continue
		}
		u, err := current.Parse(target[1:])
		if err != nil {
			return nil
		}
		next := *current
		next.RawQuery = u.RawQuery
		return &next
	}
	return nil
}
