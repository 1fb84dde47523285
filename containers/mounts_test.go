package containers

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// mountWorld makes a home with what the policy must guard, outside /tmp and
// /var so that their own rules do not answer instead.
type mountWorld struct{ root, home string }

func newMountWorld(t *testing.T) mountWorld {
	t.Helper()
	root, err := filepath.EvalSymlinks(ownDir(t))
	if err != nil {
		t.Fatal(err)
	}
	w := mountWorld{root: root, home: filepath.Join(root, "home/me")}
	for _, dir := range []string{"home/me/.ssh/keys", "home/me/src/app/deep", "home/me/state/sallyport", "home/me/config/sallyport", "sock/agent.1", "home/you"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{
		"home/me/src/to-ssh": w.home + "/.ssh", "home/me/src/to-keys": w.home + "/.ssh/keys", "home/me/src/to-home": w.home, "home/me/src/to-root": "/", "home/me/src/to-etc": "/etc",
		"home/me/src/to-app": w.home + "/src/app", "state-by-another-name": w.home + "/state",
	} {
		if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"sock/agent.1/agent", "home/me/src/file"} {
		if err := os.WriteFile(filepath.Join(root, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

func (w mountWorld) policy() MountPolicy {
	return MountPolicy{Home: w.home, Protected: []Protected{
		{filepath.Join(w.root, "state-by-another-name/sallyport"), "the gateway's state"},
		{filepath.Join(w.home, "config/sallyport"), "the configuration"},
		{filepath.Join(w.home, "run/later/sallyport"), "the gateway's sockets"},
		{filepath.Join(w.root, "sock/agent.1/agent"), "the SSH agent"},
	}}
}

func TestWhatMayBeMounted(t *testing.T) {
	w := newMountWorld(t)
	tests := []struct{ folder, want string }{ // want "": may be mounted
		{"home/me/src", ""},
		{"home/me/src/app", ""},
		{"home/me/src/app/deep", ""},
		{"home/me/src/to-app", ""},
		{"home/you", ""},
		{"home/me", "is your home folder"},
		{"home/me/", "is your home folder"},
		{"home/me/src/..", "is your home folder"},
		{"home/me/src/to-home", "is your home folder"},
		{"home", "contains"},
		{"home/me/.ssh", "your SSH keys"},
		{"home/me/.ssh/keys", "is or lies in"},
		{"home/me/src/to-ssh", "your SSH keys"},
		{"home/me/src/to-keys", "your SSH keys"},
		{"home/me/src/to-ssh/keys", "your SSH keys"},
		{"home/me/state", "contains"},
		{"home/me/state/sallyport", "the gateway's state"},
		{"home/me/config/sallyport", "the configuration"},
		{"home/me/config", "contains"},
		{"sock", "the SSH agent"},
		{"sock/agent.1", "contains"},
		{"home/me/src/file", "is not a folder"},
		{"home/me/src/none", "cannot be examined"},
		{"/", "is the root of the file system"},
		{"home/me/src/to-root", "is the root of the file system"},
		{"home/me/src/to-etc", "lies in /etc"},
		{"/tmp", "is everybody's temporary folder"},
		{"/etc", "lies in /etc"},
		{"/etc/ssl", "lies in /etc"},
		{"/var", "lies in /var"},
		{"/var/lib", "lies in /var"},
		{"/proc/self", "lies in /proc"},
		{"/sys/kernel", "lies in /sys"},
		{"/dev/shm", "lies in /dev"},
		{"/run", "lies in /run"},
		{"/var/run", "lies in /run"},
		{"/proc/self/root/etc", "lies in /etc"},
	}
	for _, tt := range tests {
		folder := tt.folder
		if !filepath.IsAbs(folder) {
			folder = w.root + "/" + folder
		}
		err := w.policy().Refusal(folder)
		var refused *MountError
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%s: %v", tt.folder, err)
		case tt.want != "" && (!errors.As(err, &refused) || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "\nhint: ")):
			t.Errorf("%s: %v; want %q", tt.folder, err, tt.want)
		}
	}
}

func TestMountRefusalCoversWhatDoesNotExistYet(t *testing.T) {
	w := newMountWorld(t)
	if err := os.Mkdir(filepath.Join(w.home, "run"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := w.policy().Refusal(filepath.Join(w.home, "run")); err == nil || !strings.Contains(err.Error(), "the gateway's sockets") {
		t.Errorf("the folder in which the sockets will appear: %v", err)
	}
}

func TestMountPolicyDeniesWhenItKnowsTooLittle(t *testing.T) {
	w := newMountWorld(t)
	app := w.home + "/src/app"
	if err := (MountPolicy{}).Refusal(app); err == nil {
		t.Error("the zero policy let a folder pass")
	}
	if err := (MountPolicy{Home: w.home, Protected: []Protected{{"", "nothing"}}}).Refusal(app); err == nil {
		t.Error("an empty protected path let a folder pass")
	}
	if err := w.policy().Refusal("src/app"); err == nil {
		t.Error("a relative path passed")
	}
}
