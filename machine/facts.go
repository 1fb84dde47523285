package machine

import (
	"context"
	"fmt"
)

// Facts are what a machine has, as far as model servers are concerned.
type Facts struct {
	Hostname, User, Home string
	Kernel, Arch         string // as uname says, e.g. "6.12.1", "x86_64"
	UID, GID             int
	Groups               []int // all of the user's, GID among them
	MemTotal             int64 // bytes
	MemAvailable         int64 // bytes
	Devices              []Device
	Engines              []EngineSocket    // those that exist
	UserNamespaces       string            // empty: a user and network namespace can be made; else why not, with the remedy
	Commands             map[string]string // path of those of vllm, llama-server, docker, podman that PATH has
	HFHome               string            // where Hugging Face's library keeps its files
	Cgroup               int               // version, 1 or 2; zero: none found
}

// Device is a GPU's device file.
type Device struct {
	Path   string
	GID    int  // the group that may open it
	Usable bool // the user may
}

// EngineSocket is a container engine's socket. That it is there does not mean
// that somebody listens.
type EngineSocket struct {
	Kind   string // "docker" or "podman"
	Path   string
	Usable bool   // the user may open it
	Why    string // why not, with the remedy
}

// Facts asks the machine what it has, in one round trip. PATH is that of a
// command over SSH, which ~/.profile has no part in.
func (m *Machine) Facts(ctx context.Context) (Facts, error) {
	out, err := m.Sh(ctx, factsScript, nil)
	if err != nil {
		return Facts{}, fmt.Errorf("ask %s what it has: %w", m, err)
	}
	f, err := parseFacts(out)
	if err != nil {
		return Facts{}, fmt.Errorf("ask %s what it has: %w", m, err)
	}
	return f, nil
}

// factsScript prints records "key=value" that each end in NUL.
const factsScript = `LC_ALL=C
export LC_ALL
say() { printf '%s=%s\0' "$1" "$2"; }
usable() { if [ -r "$1" ] && [ -w "$1" ]; then echo yes; else echo no; fi; }
file() { cat "$1" 2>/dev/null || :; }
has() { command -v "$1" >/dev/null 2>&1; }
uid=$(id -u)
say os "$(uname -s)"
say hostname "$(uname -n)"
say kernel "$(uname -r)"
say arch "$(uname -m)"
say uid "$uid"
say gid "$(id -g)"
say groups "$(id -G)"
say user "$(id -un 2>/dev/null || :)"
say home "${HOME-}"
say hf_home "${HF_HOME-}"
say cache "${XDG_CACHE_HOME-}"
say mem_total "$(sed -n 's/^MemTotal: *\([0-9]*\) kB$/\1/p' /proc/meminfo)"
say mem_available "$(sed -n 's/^MemAvailable: *\([0-9]*\) kB$/\1/p' /proc/meminfo)"
for d in /dev/kfd /dev/dri/renderD* /dev/dri/card* /dev/nvidia*; do
	if [ -c "$d" ]; then say device "$(stat -c %g "$d") $(usable "$d") $d"; fi
done
socket() {
	if [ -S "$2" ]; then say engine "$1 $(stat -c '%g %G' "$2") $(usable "$2") $2"; fi
}
run=${XDG_RUNTIME_DIR:-/run/user/$uid}
socket docker /var/run/docker.sock
socket docker "$run/docker.sock"
socket docker "/run/user/$uid/docker.sock"
socket podman "$run/podman/podman.sock"
socket podman "/run/user/$uid/podman/podman.sock"
socket podman /run/podman/podman.sock
for c in vllm llama-server docker podman; do
	if has "$c"; then say command "$c $(command -v "$c")"; fi
done
if [ -f /sys/fs/cgroup/cgroup.controllers ]; then say cgroup 2
elif [ -d /sys/fs/cgroup/memory ]; then say cgroup 1
else say cgroup 0; fi
PATH=$PATH:/usr/sbin:/sbin
limit=
if has timeout; then limit='timeout 10'; fi
probe=true # without ip the namespace alone is tried; a server also needs lo up in it
if has ip; then probe='ip link set lo up'; fi
if ! has unshare; then say namespaces 'no: there is no command unshare to try it with'
elif e=$($limit unshare -Urn $probe 2>&1); then say namespaces yes
else say namespaces "no: $(printf %.300s "$e")"; fi
say userns_clone "$(file /proc/sys/kernel/unprivileged_userns_clone)"
say userns_max "$(file /proc/sys/user/max_user_namespaces)"
say netns_max "$(file /proc/sys/user/max_net_namespaces)"
say userns_apparmor "$(file /proc/sys/kernel/apparmor_restrict_unprivileged_userns)"
say end facts`
