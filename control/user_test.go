package control

import (
	"fmt"
	"os"
	"testing"
)

func TestOrdinaryUser(t *testing.T) {
	folder := t.TempDir()
	owner := fmt.Sprintf("%d:%d", os.Getuid(), os.Getgid())
	if os.Geteuid() == 0 {
		owner = "12006:12007"
		if err := os.Chown(folder, 12006, 12007); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		name, folder, uid, gid, want string
	}{
		{"sudo", folder, "12004", "12005", "12004:12005"},
		{"sudo by root", folder, "0", "0", owner},
		{"sudo in root's group", folder, "12004", "0", owner},
		{"half", folder, "12004", "", owner},
		{"owner", folder, "", "", owner},
		{"folder of root", "/", "", "", "1000:1000"},
	} {
		env := map[string]string{"SUDO_UID": test.uid, "SUDO_GID": test.gid}
		u := OrdinaryUser(test.folder, func(name string) string { return env[name] })
		if got := fmt.Sprintf("%d:%d", u.UID, u.GID); got != test.want {
			t.Errorf("%s: %s", test.name, got)
		}
	}
}
