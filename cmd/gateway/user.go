package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/sallyport/sallyport/control"
)

// ordinaryUser is whom root's gateway runs as: --as, else as launcher decides too.
func ordinaryUser(as, folder string, getenv func(string) string) (control.User, error) {
	if as == "" {
		return control.OrdinaryUser(folder, getenv), nil
	}
	u, g, _ := strings.Cut(as, ":")
	uid, errU := strconv.Atoi(u)
	gid, errG := strconv.Atoi(g)
	if errU != nil || errG != nil || uid <= 0 || gid <= 0 {
		return control.User{}, fmt.Errorf("--as %q is no UID:GID of an ordinary user; hint: --as 1000:1000", as)
	}
	return control.UserOf(uid, gid), nil
}
