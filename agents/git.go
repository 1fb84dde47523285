package agents

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// GitIdentity is who commits. An empty field is not set.
type GitIdentity struct {
	Name  string
	Email string
}

// ReadGitIdentity reads user.name and user.email as `git config --global` would:
// from git/config in xdgConfig, then from .gitconfig in home, the later winning.
// Files that an [include] names are not read; git does not read them there
// either. A missing file is no error.
func ReadGitIdentity(home, xdgConfig string) (GitIdentity, error) {
	if xdgConfig == "" {
		xdgConfig = filepath.Join(home, ".config")
	}
	var id GitIdentity
	for _, name := range []string{filepath.Join(xdgConfig, "git", "config"), filepath.Join(home, ".gitconfig")} {
		data, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return GitIdentity{}, fmt.Errorf("read the git identity: %w", err)
		}
		id.parse(string(data))
	}
	return id, nil
}

// parse takes user.name and user.email out of a git config file. Lines it cannot
// read are git's business, not ours.
func (id *GitIdentity) parse(text string) {
	inUser := false
	lines := strings.Split(strings.ReplaceAll(text, "\r\n", "\n"), "\n")
	for i := 0; i < len(lines); i++ {
		line := strings.TrimSpace(lines[i])
		if rest, ok := strings.CutPrefix(line, "["); ok {
			section, after, _ := strings.Cut(rest, "]")
			inUser = strings.EqualFold(strings.TrimSpace(section), "user")
			line = strings.TrimSpace(after)
		}
		key, value, found := strings.Cut(line, "=")
		if !inUser || !found {
			continue
		}
		for strings.HasSuffix(value, `\`) && !strings.HasSuffix(value, `\\`) && i+1 < len(lines) {
			i++
			value = strings.TrimSuffix(value, `\`) + lines[i]
		}
		switch strings.ToLower(strings.TrimSpace(key)) {
		case "name":
			id.Name = gitValue(value)
		case "email":
			id.Email = gitValue(value)
		}
	}
}

// gitValue undoes git's quoting: comments end an unquoted part, a backslash
// escapes, spaces around the value do not count.
func gitValue(s string) string {
	var out strings.Builder
	quoted, kept := false, 0
	s = strings.TrimLeft(s, " \t")
scan:
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '"':
			quoted = !quoted
			continue
		case c == '\\' && i+1 < len(s):
			i++
			c = s[i]
			if at := strings.IndexByte("ntb", c); at >= 0 {
				c = "\n\t\b"[at]
			}
		case !quoted && (c == '#' || c == ';'):
			break scan
		case !quoted && (c == ' ' || c == '\t'):
			out.WriteByte(c)
			continue
		}
		out.WriteByte(c)
		kept = out.Len()
	}
	return out.String()[:kept]
}

// GitConfig returns the content of the sandbox's /etc/gitconfig: the identity,
// and the project as a safe folder, since its owner may be another uid there.
func GitConfig(id GitIdentity, project string) []byte {
	var b strings.Builder
	b.WriteString("# Made by sallyport; read-only.\n")
	if id.Name != "" || id.Email != "" {
		b.WriteString("[user]\n")
	}
	if id.Name != "" {
		fmt.Fprintf(&b, "\tname = %s\n", gitQuote(id.Name))
	}
	if id.Email != "" {
		fmt.Fprintf(&b, "\temail = %s\n", gitQuote(id.Email))
	}
	fmt.Fprintf(&b, "[safe]\n\tdirectory = %s\n", gitQuote(project))
	return []byte(b.String())
}

func gitQuote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\t", `\t`, "\b", `\b`, "\r", "", "\x00", "").Replace(s) + `"`
}
