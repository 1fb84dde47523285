package hub

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"
)

// lookScript prints what lies in a cache, a line each: a word, and what it is
// about. Its arguments: the weights' folder, the repository's folder, the wanted
// revision or nothing, the folder of vocabulary files. It writes nothing.
const lookScript = `
cd "$1" 2>/dev/null || exit 0
echo "folder $(pwd -P)"
for f in "$4"/*.tiktoken; do
	if [ -f "$f" ]; then echo "vocabulary $(sha256sum <"$f")${f##*/}"; fi
done
cd "hub/$2" 2>/dev/null || exit 0
for s in snapshots/*/; do
	s=${s%/}; s=${s##*/}
	if [ "$s" != '*' ]; then echo "snapshot $s"; fi
done | head -n 200
commit=$3
if [ -f "refs/$3" ]; then commit=$(head -c 100 "refs/$3"); fi
echo "commit $commit"
if [ -d blobs ]; then
	(cd blobs && find . -name '*.incomplete' -type f -exec stat -c 'incomplete %s %n' {} + | head -n 2000)
fi
[ -d "snapshots/$commit" ] || exit 0
cd "snapshots/$commit" || exit 0
find . \( -type f -o -type l \) -exec stat -L -c 'file %s %n' {} + 2>/dev/null | head -n 4000
for i in *.safetensors.index.json; do
	[ -f "$i" ] || continue
	echo "total $(sed -n 's/.*"total_size": *\([0-9][0-9]*\).*/\1/p' "$i" | head -n 1) $i"
	grep -o '"[^"/]*\.safetensors"' "$i" | sort -u | head -n 2000 | sed 's/^/shard /'
done
exit 0
`

// listScript prints the list of what a commit has, if somebody wrote it down. Its
// arguments: the weights' folder, the repository's folder, the commit.
const listScript = `
cd "$1/hub/$2" 2>/dev/null || exit 0
for l in "trees/$3.json" "sallyport/$3.json"; do
	if [ -f "$l" ] && [ "$(wc -c <"$l")" -lt 900000 ]; then cat "$l"; exit 0; fi
done
exit 0
`

// shell runs a script on a machine, as machine.Machine.Sh does.
type shell func(ctx context.Context, script string, stdin io.Reader, args ...string) ([]byte, error)

// lying is what lookScript printed.
type lying struct {
	folder       string
	vocabularies map[string]string // SHA-256 by name
	snapshots    []string
	commit       string
	incomplete   map[string]int64 // size by blob, as far as the blob's name is known
	files        map[string]int64 // size by path in the snapshot
	totals       []int64          // of tensors, as the indexes of shards say
	shards       []string
	list         []File // what the commit has; nil: nobody wrote it down
}

func find(ctx context.Context, sh shell, dir string, w Want) (Found, error) {
	if err := w.check(); err != nil {
		return Found{}, err
	}
	out, err := sh(ctx, lookScript, nil, dir, w.folder(), w.revision(), EncodingsFolder)
	if err != nil {
		return Found{}, fmt.Errorf("look for %s in %s: %w", w.Repo, dir, err)
	}
	l, err := parseLook(out)
	if err != nil {
		return Found{}, fmt.Errorf("look for %s in %s: %w", w.Repo, dir, err)
	}
	if l.commit != "" {
		if out, err = sh(ctx, listScript, nil, dir, w.folder(), l.commit); err != nil {
			return Found{}, fmt.Errorf("look for %s in %s: %w", w.Repo, dir, err)
		}
		l.list = parseList(out)
	}
	return l.judge(w), nil
}

// Bounds of what lookScript tells.
const (
	maxFolder    = 4096 // bytes: PATH_MAX
	maxSnapshots = 200
)

// parseLook reads what lookScript printed. A line that is none of its own is
// passed over: file names may hold anything, line ends too. So the folder is what
// the first line says and no other, and the commit what is said of it first.
func parseLook(out []byte) (lying, error) {
	l := lying{vocabularies: map[string]string{}, incomplete: map[string]int64{}, files: map[string]int64{}}
	if len(out) == 0 { // there is no such folder
		return l, nil
	}
	first, _, _ := strings.Cut(string(out), "\n")
	folder, ok := strings.CutPrefix(first, "folder ")
	if !ok || !path.IsAbs(folder) || path.Clean(folder) != folder || folder == "/" || printable(folder) != folder || len(folder) > maxFolder {
		return l, fmt.Errorf("its real folder has a path that cannot be used: %s; hint: set weights to another folder", printable(fmt.Sprintf("%.200q", first)))
	}
	l.folder = folder
	for line := range strings.Lines(string(out)) {
		word, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		switch word {
		case "vocabulary": // "HASH  -NAME", as sha256sum prints standard input
			hash, name, _ := strings.Cut(rest, "  -")
			l.vocabularies[name] = hash
		case "snapshot":
			if commitHash().MatchString(rest) && len(l.snapshots) < maxSnapshots {
				l.snapshots = append(l.snapshots, rest)
			}
		case "commit":
			if c := strings.TrimSpace(rest); l.commit == "" && commitHash().MatchString(c) {
				l.commit = c
			}
		case "shard":
			l.shards = append(l.shards, strings.Trim(rest, `"`))
		case "total":
			n, _, _ := strings.Cut(rest, " ")
			total, _ := strconv.ParseInt(n, 10, 64)
			l.totals = append(l.totals, total)
		case "file", "incomplete":
			l.noteFile(word, rest)
		}
	}
	return l, nil
}

func (l *lying) noteFile(word, rest string) {
	number, name, _ := strings.Cut(rest, " ")
	size, err := strconv.ParseInt(number, 10, 64)
	name = strings.TrimPrefix(name, "./")
	if err != nil || size < 0 || size > maxFileSize || !safePath(name) {
		return
	}
	if word == "file" {
		l.files[name] = size
		return
	}
	// BLOB.incomplete, or BLOB.XXXXXXXX.incomplete of newer versions of huggingface_hub.
	blob, _, _ := strings.Cut(name, ".")
	l.incomplete[blob] = max(l.incomplete[blob], size)
}

// parseList reads the list of a commit's files, ours or huggingface_hub's; nil
// if it is not to be relied on.
func parseList(data []byte) []File {
	var l list
	if json.Unmarshal(data, &l) != nil || l.Version != 1 {
		return nil
	}
	var files []File
	for name, entry := range l.Files {
		f := File{Path: name, Size: entry.Size, Git: entry.Blob, LFS: entry.LFS}
		if f.LFS != "" && entry.LFSSize != 0 {
			f.Size = entry.LFSSize
		}
		if f.check(f.LFS != "") != nil {
			return nil
		}
		files = append(files, f)
	}
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	if checkTree(files) != nil {
		return nil
	}
	return files
}

// maxMissing bounds how many missing files are named.
const maxMissing = 20

// judge says whether what lies there is what is wanted.
func (l lying) judge(w Want) Found {
	f := Found{Weights: l.folder, Complete: true, EncodingsComplete: true}
	miss := func(format string, args ...any) {
		f.Complete = false
		if len(f.Missing) < maxMissing {
			f.Missing = append(f.Missing, printable(fmt.Sprintf(format, args...)))
		}
	}
	for _, v := range w.vocabularies() {
		if l.vocabularies[v.Name] != v.SHA256 {
			f.EncodingsComplete = false
			miss("%s/%s", EncodingsFolder, v.Name)
		}
	}
	for _, s := range l.snapshots {
		if s != l.commit {
			f.Others = append(f.Others, s)
		}
	}
	if l.commit == "" || !slices.Contains(l.snapshots, l.commit) {
		miss("%s, revision %s", w.Repo, w.revision())
		for _, size := range l.incomplete {
			f.HaveBytes += size
		}
		return f
	}
	f.Revision = l.commit
	f.Snapshot = path.Join(l.folder, "hub", w.folder(), snapshot(l.commit))
	if l.list != nil {
		l.byList(w, &f, miss)
	} else {
		l.byNames(w, &f, miss)
	}
	return f
}

// byList compares with the list of what the commit has.
func (l lying) byList(w Want, f *Found, miss func(string, ...any)) {
	wanted := 0
	for _, file := range l.list {
		if !w.includes(file.Path) {
			continue
		}
		wanted++
		size, ok := l.files[file.Path]
		switch {
		case ok && size == file.Size:
			f.HaveBytes += size
		case ok:
			miss("%s (%d bytes instead of %d)", file.Path, size, file.Size)
		default:
			f.HaveBytes += min(l.incomplete[file.blob()], file.Size)
			miss("%s", file.Path)
		}
	}
	if wanted == 0 {
		miss("any file of %s", strings.Join(w.Include, ", "))
	}
}

// shardName is how a file that is one of several is named.
var shardName = lazily(`^(.*)-(\d{5})-of-(\d{5})(\.(?:safetensors|gguf))$`)

// byNames judges a snapshot of which nobody wrote down what belongs to it, by
// what its own files say: the index of shards, the numbers in their names. What
// cannot be told is not complete.
func (l lying) byNames(w Want, f *Found, miss func(string, ...any)) {
	var weights []string
	for name, size := range l.files {
		if !w.includes(name) {
			continue
		}
		f.HaveBytes += size
		if size > 0 && (strings.HasSuffix(name, ".safetensors") || strings.HasSuffix(name, ".gguf")) {
			weights = append(weights, name)
		}
	}
	for _, size := range l.incomplete {
		f.HaveBytes += size
	}
	slices.Sort(weights)
	for _, pattern := range w.Include {
		if _, ok := l.files[pattern]; !ok && !strings.ContainsAny(pattern, `*?[\`) {
			miss("%s", pattern)
		}
	}
	if len(weights) == 0 {
		miss("any weights of %s", w.Repo)
		return
	}
	if strings.HasSuffix(weights[0], ".safetensors") && l.files["config.json"] == 0 {
		miss("config.json")
	}
	proven := l.byIndex(w, miss)
	for _, name := range l.series(weights) {
		miss("%s", name)
	}
	if !proven && len(l.incomplete) > 0 {
		miss("the rest of an unfinished download")
	}
}

// byIndex reports whether indexes of shards prove that all are there with all
// their bytes.
func (l lying) byIndex(w Want, miss func(string, ...any)) bool {
	if len(l.totals) != 1 || len(l.shards) == 0 {
		return false
	}
	var have int64
	for _, name := range l.shards {
		if !w.includes(name) {
			return false
		}
		size := l.files[name]
		if size == 0 {
			miss("%s", name)
		}
		have += size
	}
	// The tensors alone; each file has a head beside them.
	if have < l.totals[0] {
		miss("%d bytes of the shards", l.totals[0]-have)
	}
	return l.totals[0] > 0
}

// series are the files that the numbers of others say are missing.
func (l lying) series(weights []string) (missing []string) {
	for _, name := range weights {
		m := shardName().FindStringSubmatch(name)
		if m == nil {
			continue
		}
		count, err := strconv.Atoi(m[3])
		if err != nil || count > maxFiles {
			return append(missing, name)
		}
		for i := 1; i <= count; i++ {
			other := fmt.Sprintf("%s-%05d-of-%s%s", m[1], i, m[3], m[4])
			if l.files[other] == 0 && !slices.Contains(missing, other) {
				missing = append(missing, other)
			}
			if len(missing) > maxMissing {
				return missing
			}
		}
	}
	return missing
}
