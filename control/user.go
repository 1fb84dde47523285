package control

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// User is the ordinary user as whom root's gateway and agents run.
type User struct {
	UID, GID int // neither is ever root's
	Home     string
}

// UserOf is the user with these ids, and with the home that the system knows,
// if it is a folder of theirs; otherwise the one that MakeHome makes.
func UserOf(uid, gid int) User {
	u := User{UID: uid, GID: gid, Home: "/var/lib/sallyport-" + strconv.Itoa(uid)}
	if known, err := user.LookupId(strconv.Itoa(uid)); err == nil && isFolderOf(known.HomeDir, uid) {
		u.Home = known.HomeDir
	}
	return u
}

// OrdinaryUser is who that is for a caller who is root: the user behind sudo,
// else the folder's owner, else 1000. Launcher and gateway both ask here.
func OrdinaryUser(folder string, getenv func(string) string) User {
	uid, errU := strconv.Atoi(getenv("SUDO_UID"))
	gid, errG := strconv.Atoi(getenv("SUDO_GID"))
	if errU == nil && errG == nil && uid > 0 && gid > 0 {
		return UserOf(uid, gid)
	}
	if info, err := os.Stat(folder); err == nil {
		if stat, ok := info.Sys().(*syscall.Stat_t); ok && stat.Uid != 0 && stat.Gid != 0 {
			return UserOf(int(stat.Uid), int(stat.Gid))
		}
	}
	return UserOf(1000, 1000)
}

// MakeHome makes the home of a user who has none. Its folder is root's.
func (u User) MakeHome() error {
	if isFolderOf(u.Home, u.UID) {
		return nil
	}
	if err := os.Mkdir(u.Home, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("make a home for uid %d: %w", u.UID, err)
	}
	if err := os.Lchown(u.Home, u.UID, u.GID); err != nil {
		return fmt.Errorf("hand over the home of uid %d: %w", u.UID, err)
	}
	return nil
}

func isFolderOf(path string, uid int) bool {
	info, err := os.Stat(path)
	if err != nil || !info.IsDir() {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == uid
}
