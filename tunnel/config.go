package tunnel

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/kevinburke/ssh_config"
)

// UnreadableError names the line of an ssh configuration that this program does
// not read as OpenSSH does. It then asks `ssh -G`; the error is seen when that
// is not possible.
type UnreadableError struct {
	File string
	Line int
	Text string // the line
	Why  string
	Err  error // why ssh -G did not help; may be nil
}

func (e *UnreadableError) Error() string {
	s := fmt.Sprintf("%s:%d: %q: %s", e.File, e.Line, e.Text, e.Why)
	if e.Err != nil {
		s += fmt.Sprintf("; asked `ssh -G` instead: %v", e.Err)
	}
	return s + "; install openssh-client, or say the same in plain Host blocks"
}

// Unwrap returns why ssh -G did not help.
func (e *UnreadableError) Unwrap() error { return e.Err }

// wanted are the settings that Resolve needs; a line with any other is skipped,
// so that it cannot stand in the way either.
func wanted(key string) bool {
	switch key {
	case "hostname", "port", "user", "identityfile", "certificatefile", "identitiesonly", "identityagent",
		"proxyjump", "proxycommand", "userknownhostsfile", "globalknownhostsfile", "hostkeyalias",
		"revokedhostkeys", "canonicalizehostname":
		return true
	}
	return false
}

// values are the settings of one host, lower-case keyword to arguments, one
// entry a line, the first line first.
type values map[string][][]string

// argSep joins the arguments of a line on their way through the parser.
const argSep = "\x1f"

// maxInclude bounds nested Includes, as OpenSSH does.
const maxInclude = 16

// readConfig reads what files (the user's, then the system's) say of host. The
// ssh_config library does the matching and the reading; but it misreads most
// Match lines, comments, quotes and tabs without a word. So it is given a plain
// rendering: no Includes, no comments, only lines whose meaning is certain. Any
// other line that could matter is an *UnreadableError.
func readConfig(files []string, home, host string) (values, error) {
	f := flattener{home: home, host: host}
	for _, file := range files {
		if err := f.file(file, 0, nil); err != nil {
			return nil, err
		}
	}
	cfg, err := ssh_config.DecodeBytes([]byte(f.out.String()))
	if err != nil {
		return nil, fmt.Errorf("ssh configuration %s: %w", strings.Join(files, ", "), err)
	}
	v := values{}
	for _, block := range cfg.Hosts {
		if !block.Matches(host) {
			continue
		}
		for _, node := range block.Nodes {
			if kv, ok := node.(*ssh_config.KV); ok {
				v[kv.Key] = append(v[kv.Key], strings.Split(kv.Value, argSep))
			}
		}
	}
	return v, nil
}

// flattener renders configuration files for one host.
type flattener struct {
	home, host string
	out        strings.Builder
}

// block is where the flattener is in a file.
type block struct {
	header string           // the line that opens the block, to open it again after an Include
	live   bool             // whether the block is for this host, so that its Includes count
	guard  *UnreadableError // set in a Match block that cannot be judged: no wanted line may follow
}

// file renders one file. guard is that of the block which includes it.
func (f *flattener) file(path string, depth int, guard *UnreadableError) error {
	if depth > maxInclude {
		return fmt.Errorf("ssh configuration %s: Include goes deeper than %d files", path, maxInclude)
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("ssh configuration: %w", err)
	}
	b := block{header: "Host *", live: true, guard: guard}
	f.emit(b.header)
	for i, line := range strings.Split(string(text), "\n") {
		bad := &UnreadableError{File: path, Line: i + 1, Text: strings.TrimSpace(line)}
		if err := f.line(&b, line, bad, path, depth); err != nil {
			return err
		}
		if guard != nil {
			b.guard = guard
		}
	}
	return nil
}

// line renders one line; bad is the error to return if that is impossible.
func (f *flattener) line(b *block, line string, bad *UnreadableError, path string, depth int) error {
	key, args, why := splitLine(line)
	switch {
	case key == "":
		return nil
	case key == "host" || key == "match" || key == "include" || wanted(key):
		if why != "" {
			bad.Why = why
			return bad
		}
	default:
		return nil
	}
	switch key {
	case "host":
		return f.hostLine(b, args, bad)
	case "match":
		return f.matchLine(b, args, bad)
	case "include":
		return f.include(b, args, bad, path, depth)
	}
	if b.guard != nil {
		return b.guard
	}
	f.emit(key + " " + strings.Join(args, argSep))
	return nil
}

func (f *flattener) emit(line string) { f.out.WriteString(line + "\n") }

func (f *flattener) hostLine(b *block, args []string, bad *UnreadableError) error {
	var h ssh_config.Host
	for _, a := range args {
		if strings.ContainsRune(a, '?') { // the library lets it match nothing as well
			bad.Why = "the pattern ? is not supported here"
			return bad
		}
		p, err := ssh_config.NewPattern(a)
		if err != nil {
			bad.Why = err.Error()
			return bad
		}
		h.Patterns = append(h.Patterns, p)
	}
	*b = block{header: "Host " + strings.Join(args, " "), live: h.Matches(f.host)}
	f.emit(b.header)
	return nil
}

// matchLine opens a Match block. Only `Match all` can be judged. Others are let
// pass as long as nothing in them matters, but for final and canonical: these
// make OpenSSH read everything again, with another name.
func (f *flattener) matchLine(b *block, args []string, bad *UnreadableError) error {
	if len(args) == 1 && strings.EqualFold(args[0], "all") {
		*b = block{header: "Host *", live: true}
		f.emit(b.header)
		return nil
	}
	bad.Why = "Match, other than `Match all`, is left to OpenSSH"
	for _, a := range args {
		word, _, _ := strings.Cut(strings.ToLower(strings.TrimPrefix(a, "!")), "=")
		if word == "final" || word == "canonical" {
			return bad
		}
	}
	// Nothing wanted follows a guard, so the rendering needs no block.
	*b = block{header: b.header, live: true, guard: bad}
	return nil
}

// include renders the files of an Include line in its place.
func (f *flattener) include(b *block, args []string, bad *UnreadableError, path string, depth int) error {
	if !b.live {
		return nil
	}
	for _, pattern := range args {
		if strings.ContainsAny(pattern, "%$") || strings.HasPrefix(pattern, "~") && !strings.HasPrefix(pattern, "~/") {
			bad.Why = "only plain paths and ~/ can be included here"
			return bad
		}
		switch {
		case strings.HasPrefix(pattern, "~/"):
			pattern = filepath.Join(f.home, pattern[2:])
		case filepath.IsAbs(pattern):
		case strings.HasPrefix(path, "/etc/ssh/"):
			pattern = filepath.Join("/etc/ssh", pattern)
		default:
			pattern = filepath.Join(f.home, ".ssh", pattern)
		}
		files, err := filepath.Glob(pattern)
		if err != nil {
			bad.Why = err.Error()
			return bad
		}
		for _, file := range files {
			if err := f.file(file, depth+1, b.guard); err != nil {
				return err
			}
		}
	}
	f.emit(b.header)
	return nil
}
