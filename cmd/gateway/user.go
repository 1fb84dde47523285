package main

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"
	"syscall"
)

// ordinary is the user that root's gateway runs as.
type ordinary struct {
	uid, gid int
	home     string
}

// ordinaryUser is who that is: --as, the user behind sudo, the owner of folder,
// else 1000. launcher decides in the same way.
func ordinaryUser(as, folder string, getenv func(string) string) (ordinary, error) {
	if as != "" {
		u, g, _ := strings.Cut(as, ":")
		uid, errU := strconv.Atoi(u)
		gid, errG := strconv.Atoi(g)
		if errU != nil || errG != nil || uid <= 0 || gid <= 0 {
			return ordinary{}, fmt.Errorf("--as %q is no UID:GID of an ordinary user; hint: --as 1000:1000", as)
		}
		return ordinary{uid, gid, homeOf(uid)}, nil
	}
	uid, errU := strconv.Atoi(getenv("SUDO_UID"))
	gid, errG := strconv.Atoi(getenv("SUDO_GID"))
	if errU == nil && errG == nil && uid > 0 && gid > 0 {
		return ordinary{uid, gid, homeOf(uid)}, nil
	}
	if info, err := os.Stat(folder); err == nil {
		if stat, ok := info.Sys().(*syscall.Stat_t); ok && stat.Uid != 0 && stat.Gid != 0 {
			return ordinary{int(stat.Uid), int(stat.Gid), homeOf(int(stat.Uid))}, nil
		}
	}
	return ordinary{1000, 1000, homeOf(1000)}, nil
}

// homeOf is a user's home; for one who has none of his own, the folder that
// makeHome makes.
func homeOf(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil && isFolderOf(u.HomeDir, uid) {
		return u.HomeDir
	}
	return "/var/lib/sallyport-" + strconv.Itoa(uid)
}

func isFolderOf(path string, uid int) bool {
	info, err := os.Stat(path)
	if err != nil || !info.IsDir() {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == uid
}

// makeHome makes the home of a user who has none. Its folder is root's.
func (u ordinary) makeHome() error {
	if isFolderOf(u.home, u.uid) {
		return nil
	}
	if err := os.Mkdir(u.home, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("make a home for uid %d: %w", u.uid, err)
	}
	if err := os.Lchown(u.home, u.uid, u.gid); err != nil {
		return fmt.Errorf("hand over the home of uid %d: %w", u.uid, err)
	}
	return nil
}
