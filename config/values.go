package config

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport/sallyport/policy"
)

// Engine names the program that serves a model.
type Engine string

// The engines.
const (
	EngineVLLM     Engine = "vllm"
	EngineLlamaCpp Engine = "llama.cpp"
	EngineExternal Engine = "external" // started by somebody else
	EngineDemo     Engine = "demo"     // the stand-in in our own binary
)

// Runtime says what model servers run in.
type Runtime string

// The runtimes. Auto takes the first of the others that is there.
const (
	RuntimeAuto    Runtime = "auto"
	RuntimeDocker  Runtime = "docker"
	RuntimePodman  Runtime = "podman"
	RuntimeProcess Runtime = "process" // namespaces of our own; no engine is needed
)

// Hardware names a preset of images, devices and flags.
type Hardware string

// The presets.
const (
	HardwareStrixHalo Hardware = "strix-halo"
	HardwareCUDA      Hardware = "cuda"
	HardwareCPU       Hardware = "cpu"
)

// Pull says how weights are fetched.
type Pull string

// The two ways. PullDirect gives up the promise that a pull is recorded.
const (
	PullProxy  Pull = "proxy"  // through the gateway, to the hub alone
	PullDirect Pull = "direct" // with the network of the machine that has the weights
)

// Idle is how long a server may be without requests before it ends. Zero says
// nothing; NeverIdle, that it never ends by itself.
type Idle time.Duration

// NeverIdle is "never".
const NeverIdle Idle = -1

// UnmarshalText reads "30m", "2h" or "never".
func (i *Idle) UnmarshalText(text []byte) error {
	s := string(text)
	if s == "never" {
		*i = NeverIdle
		return nil
	}
	units := map[byte]time.Duration{'m': time.Minute, 'h': time.Hour}
	if len(s) > 1 {
		n, err := strconv.ParseUint(s[:len(s)-1], 10, 16)
		if unit, ok := units[s[len(s)-1]]; ok && err == nil && n > 0 {
			*i = Idle(time.Duration(n) * unit)
			return nil
		}
	}
	return errors.New(`not a time span; write for example 30m, 2h or never`)
}

// Serve says whether the audit page is served.
type Serve string

// The two ways.
const (
	ServeLoopback Serve = "loopback"
	ServeNever    Serve = "never"
)

// OnFailure says what happens to attempts that cannot be recorded.
type OnFailure string

// The two ways. FailContinue gives up the promise that every attempt is recorded.
const (
	FailDeny     OnFailure = "deny"
	FailContinue OnFailure = "continue"
)

// Terminal says what of an agent's output reaches the user's terminal.
type Terminal string

// The two ways.
const (
	TerminalFiltered Terminal = "filtered" // less what reaches beyond the screen
	TerminalRaw      Terminal = "raw"      // all
)

// Secret is a string that formats as a mask, so that no log or error holds it.
// Convert it with string(s) where it is used.
type Secret string

// String returns a mask.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "(secret)"
}

// GoString returns a mask.
func (s Secret) GoString() string { return s.String() }

// Age is how long records are kept. Zero means for ever.
type Age time.Duration

// UnmarshalText reads "90d", "12h", "2w" or "forever".
func (a *Age) UnmarshalText(text []byte) error {
	s := string(text)
	if s == "forever" {
		*a = 0
		return nil
	}
	units := map[byte]time.Duration{'h': time.Hour, 'd': 24 * time.Hour, 'w': 7 * 24 * time.Hour}
	if len(s) > 1 {
		n, err := strconv.ParseUint(s[:len(s)-1], 10, 16)
		if unit, ok := units[s[len(s)-1]]; ok && err == nil && n > 0 {
			*a = Age(time.Duration(n) * unit)
			return nil
		}
	}
	return errors.New(`not a time span; write for example 90d, 12h, 2w or forever`)
}

// Bytes is an amount of memory.
type Bytes int64

// UnmarshalText reads a whole number with one of the units KB, MB, GB (powers of
// 1000) or KiB, MiB, GiB (powers of 1024).
func (b *Bytes) UnmarshalText(text []byte) error {
	units := []struct {
		suffix string
		factor int64
	}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}}
	for _, u := range units {
		digits, ok := strings.CutSuffix(string(text), u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
		if err == nil && n > 0 && n <= math.MaxInt64/u.factor {
			*b = Bytes(n * u.factor)
			return nil
		}
	}
	return errors.New("not an amount of memory; write for example 8GB, 512MB or 4GiB")
}

// maxUnixPath is what fits a sockaddr_un with its end mark (unix(7)).
const maxUnixPath = 107

// Endpoint is where a model server listens, as net.Dial takes it. The zero
// Endpoint is none.
type Endpoint struct {
	Network string // "tcp" or "unix"
	Address string // "host:port", or the socket's path
}

// String returns the endpoint as it is written in the configuration.
func (e Endpoint) String() string {
	switch e.Network {
	case "unix":
		return "unix://" + e.Address
	case "tcp":
		return "http://" + e.Address
	}
	return ""
}

// UnmarshalText reads "http://host:port" or "unix:///path".
func (e *Endpoint) UnmarshalText(text []byte) error {
	s := string(text)
	if p, ok := strings.CutPrefix(s, "unix://"); ok {
		if err := checkUnixPath(p); err != nil {
			return err
		}
		*e = Endpoint{Network: "unix", Address: p}
		return nil
	}
	if strings.HasPrefix(s, "https://") {
		return errors.New("https is not supported; reach the server through one of hosts, and write http://127.0.0.1:port")
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" || u.Host == "" {
		return errors.New("not an endpoint; write http://host:port or unix:///path")
	}
	if u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.Trim(u.Path, "/") != "" {
		return errors.New("more than host and port; write http://host:port, and a password under token")
	}
	if port, err := strconv.ParseUint(u.Port(), 10, 16); err != nil || port == 0 {
		return errors.New("no port between 1 and 65535; write http://host:port")
	}
	if _, err := netip.ParseAddr(u.Hostname()); err != nil {
		if _, err := policy.Canonical(u.Hostname()); err != nil {
			return errors.New("the host is neither a host name nor an address; write http://host:port")
		}
	}
	*e = Endpoint{Network: "tcp", Address: net.JoinHostPort(u.Hostname(), u.Port())}
	return nil
}

// checkUnixPath checks the path of a unix socket.
func checkUnixPath(p string) error {
	switch {
	case !path.IsAbs(p) || path.Clean(p) != p || p == "/":
		return errors.New("not the absolute path of a socket; write unix:///path/to.sock")
	case len(p) > maxUnixPath:
		return fmt.Errorf("a path of %d bytes; a socket's may have %d, choose a shorter one", len(p), maxUnixPath)
	case strings.ContainsFunc(p, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return errors.New("a path with control characters")
	}
	return nil
}
