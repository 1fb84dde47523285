package lab

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// The user who types the commands, on the laptop and on the GPU host.
const (
	UserName = "lab"
	UserID   = 1000
)

// subIDs are the numbers that users' own namespaces may use.
const subIDs = "dockremap:200000:65536\n" + UserName + ":300000:65536\n"

// account is that user on one host.
type account struct {
	home   string
	groups []uint32 // supplementary
}

// newAccount adds the user to a release's user list, in files for the host's
// own layer, and to the group docker if there is one.
func newAccount(lower, home string) (*account, map[string]string, error) {
	passwd, err := os.ReadFile(filepath.Join(lower, "etc/passwd"))
	if err != nil {
		return nil, nil, err
	}
	shadow, err := os.ReadFile(filepath.Join(lower, "etc/shadow"))
	if err != nil {
		return nil, nil, err
	}
	group, docker, err := groupWithUser(filepath.Join(lower, "etc/group"))
	if err != nil {
		return nil, nil, err
	}
	files := map[string]string{
		"/etc/passwd": fmt.Sprintf("%s%s:x:%d:%d::%s:/bin/bash\n", passwd, UserName, UserID, UserID, home),
		// An asterisk lets keys in; an exclamation mark would lock the account.
		"/etc/shadow": fmt.Sprintf("%s%s:*:20000:0:99999:7:::\n", shadow, UserName),
		"/etc/group":  group,
		// For engines with userns-remap, and for the user's own engine.
		"/etc/subuid": subIDs,
		"/etc/subgid": subIDs,
	}
	a := &account{home: home}
	if docker != 0 {
		a.groups = []uint32{docker}
	}
	return a, files, nil
}

// groupWithUser returns the group file with the user in it and the id of the
// group docker, 0 without one.
func groupWithUser(path string) (content string, docker uint32, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	var out strings.Builder
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		line := lines.Text()
		if fields := strings.Split(line, ":"); len(fields) == 4 && fields[0] == "docker" {
			id, err := strconv.ParseUint(fields[2], 10, 32)
			if err != nil {
				return "", 0, fmt.Errorf("lab: %s: %w", path, err)
			}
			docker, line = uint32(id), line+UserName
		}
		out.WriteString(line + "\n")
	}
	fmt.Fprintf(&out, "%s:x:%d:\n", UserName, UserID)
	return out.String(), docker, lines.Err()
}
