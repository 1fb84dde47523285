# Functions that the scripts share; they run in the checkout's top folder.

say() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; }

fail() {
	say "$*"
	exit 1
}

# as_root COMMAND…: with sudo unless we are root.
as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	else
		sudo "$@"
	fi
}

# need PROGRAM=PACKAGE…: installs the packages of the programs that are missing.
# Says which; asks, unless we are root or in CI.
need() {
	local pair missing=() path=$PATH:/usr/sbin:/sbin
	for pair in "$@"; do
		PATH=$path command -v "${pair%%=*}" >/dev/null || missing+=("${pair#*=}")
	done
	if [ ${#missing[@]} = 0 ]; then
		return
	fi
	say "missing: ${missing[*]}"
	command -v apt-get >/dev/null || fail "install them; this script only knows apt"
	if [ "$(id -u)" != 0 ] && [ "${CI:-}" != true ]; then
		local answer
		read -r -p "Install them with apt-get? [y/N] " answer
		case $answer in
		[yY]*) ;;
		*) fail "nothing was installed" ;;
		esac
	fi
	as_root apt-get -q update >&2
	# No service is started: those here that need one start their own.
	as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
		apt-get -q install -y --no-install-recommends "${missing[@]}" >&2
}

# need_go checks for a Go that go.mod accepts.
need_go() {
	command -v go >/dev/null ||
		fail "Go $(awk '$1 == "go" { print $2 }' go.mod) or newer is missing; see go.dev/dl"
	go mod download || fail "the Go modules could not be fetched"
}

# extra_ca lets an image build trust what npm on this machine is told to trust.
extra_ca() {
	if [ -n "${NODE_EXTRA_CA_CERTS:-}" ] && [ -z "${SALLYPORT_AGENT_EXTRA_CA:-}" ]; then
		say "the image build trusts $NODE_EXTRA_CA_CERTS too (NODE_EXTRA_CA_CERTS)"
		export SALLYPORT_AGENT_EXTRA_CA=$NODE_EXTRA_CA_CERTS
	fi
}

# base_image puts debian:12-slim on the engine that docker talks to.
# SALLYPORT_BASE=mmdebstrap does not ask a registry for it.
base_image() {
	local image=debian:12-slim
	if docker image inspect "$image" >/dev/null 2>&1; then
		return
	fi
	if [ "${SALLYPORT_BASE:-}" != mmdebstrap ] && timeout 120 docker pull -q "$image" >&2; then
		return
	fi
	say "no registry gave $image: making it of Debian's packages with mmdebstrap"
	need mmdebstrap=mmdebstrap
	local cache=${XDG_CACHE_HOME:-$HOME/.cache}/sallyport
	scripts/base-image "$cache/base.tar"
	docker import "$cache/base.tar" "$image" >/dev/null
}

# need_trees installs what makes the lab's hosts.
need_trees() {
	need mmdebstrap=mmdebstrap
	[ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || need no-debian-keys=debian-archive-keyring
}

# lab_exec sets exec_with: the arguments with which go test runs a lab's test as root.
lab_exec() {
	exec_with=()
	if [ "$(id -u)" != 0 ]; then
		# shellcheck disable=SC2034 # for whoever calls
		exec_with=(-exec "sudo --preserve-env=CI,PATH,HOME,GOCACHE,GOMODCACHE,GOPROXY,NODE_EXTRA_CA_CERTS,SALLYPORT_LAB_CACHE")
	fi
}
