package verify

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/netip"
	"path"
	"slices"
	"strings"
)

func checkLinks(_ context.Context, s QuickSpec) (string, error) {
	text, err := fs.ReadFile(s.Root, "proc/net/dev")
	if err != nil {
		return "", err
	}
	var names []string
	for line := range strings.Lines(string(text)) {
		if name, _, ok := strings.Cut(line, ":"); ok {
			names = append(names, strings.TrimSpace(name))
		}
	}
	slices.Sort(names)
	if !slices.Equal(names, []string{"eth0", "lo"}) {
		return "", fmt.Errorf("the interfaces are %q", names)
	}
	return "eth0 and lo", nil
}

// checkRoutes wants one default route for each family, to the gateway, and no
// route to anybody else.
func checkRoutes(_ context.Context, s QuickSpec) (string, error) {
	four, err := routes4(s.Root)
	if err != nil {
		return "", err
	}
	six, err := routes6(s.Root)
	if err != nil {
		return "", err
	}
	if err := onlyTo(four, s.Gateway4); err != nil {
		return "", err
	}
	if !s.Gateway6.IsValid() {
		if len(six) > 0 {
			return "", fmt.Errorf("there is an IPv6 route by way of %s", six[0].via)
		}
		return fmt.Sprintf("by %s, no IPv6", s.Gateway4), nil
	}
	if err := onlyTo(six, s.Gateway6); err != nil {
		return "", err
	}
	return fmt.Sprintf("by %s and %s", s.Gateway4, s.Gateway6), nil
}

// route is a route by way of another host.
type route struct {
	all bool // to everywhere
	via netip.Addr
	dev string
}

func onlyTo(routes []route, gateway netip.Addr) error {
	found := false
	for _, r := range routes {
		if r.via != gateway || r.dev != "eth0" {
			return fmt.Errorf("a route leads by way of %s at %s; the gateway is %s", r.via, r.dev, gateway)
		}
		found = found || r.all
	}
	if !found {
		return fmt.Errorf("there is no default route to %s", gateway)
	}
	return nil
}

// routes4 reads /proc/net/route: addresses are 32-bit numbers as this machine
// has them in memory, so little-endian ones come reversed.
func routes4(root fs.FS) ([]route, error) {
	text, err := fs.ReadFile(root, "proc/net/route")
	if err != nil {
		return nil, err
	}
	var list []route
	for i, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		f := strings.Fields(line)
		if i == 0 {
			continue
		}
		if len(f) < 8 {
			return nil, fmt.Errorf("/proc/net/route: cannot read %q", line)
		}
		raw, err := hex.DecodeString(f[2])
		if err != nil || len(raw) != 4 {
			return nil, fmt.Errorf("/proc/net/route: cannot read %q", line)
		}
		via := netip.AddrFrom4(inMemory(raw))
		all := f[1] == "00000000" && f[7] == "00000000"
		if !via.IsUnspecified() || all { // an on-link default route leads everywhere too
			list = append(list, route{all: all, via: via, dev: f[0]})
		}
	}
	return list, nil
}

// inMemory returns the bytes behind a number that the kernel printed with %08X.
func inMemory(printed []byte) (b [4]byte) {
	binary.NativeEndian.PutUint32(b[:], binary.BigEndian.Uint32(printed))
	return b
}

// routes6 reads /proc/net/ipv6_route; where there is no IPv6, there is no file.
func routes6(root fs.FS) ([]route, error) {
	text, err := fs.ReadFile(root, "proc/net/ipv6_route")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	const reject = '2' // RTF_REJECT 0x200: the kernel's own "unreachable" entries
	var list []route
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) < 10 || len(f[8]) != 8 {
			return nil, fmt.Errorf("/proc/net/ipv6_route: cannot read %q", line)
		}
		raw, err := hex.DecodeString(f[4])
		if err != nil || len(raw) != 16 {
			return nil, fmt.Errorf("/proc/net/ipv6_route: cannot read %q", line)
		}
		via := netip.AddrFrom16([16]byte(raw))
		all := f[1] == "00"
		if f[8][5] != reject && (!via.IsUnspecified() || all) {
			list = append(list, route{all: all, via: via, dev: f[9]})
		}
	}
	return list, nil
}

func checkPrivileges(_ context.Context, s QuickSpec) (string, error) {
	text, err := fs.ReadFile(s.Root, "proc/self/status")
	if err != nil {
		return "", err
	}
	got := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, ":"); ok {
			got[key] = strings.TrimSpace(value)
		}
	}
	for _, key := range []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"} {
		if v, ok := got[key]; !ok || strings.Trim(v, "0") != "" {
			return "", fmt.Errorf("%s is %q, not 0", key, v)
		}
	}
	if got["NoNewPrivs"] != "1" {
		return "", fmt.Errorf("NoNewPrivs is %q, not 1", got["NoNewPrivs"])
	}
	uids := strings.Fields(got["Uid"])
	if len(uids) == 0 || slices.Contains(uids, "0") && !s.AllowRoot {
		return "", fmt.Errorf("the uid is %q", got["Uid"])
	}
	return "none, uid " + uids[0], nil
}

func checkResolver(_ context.Context, s QuickSpec) (string, error) {
	text, err := fs.ReadFile(s.Root, "etc/resolv.conf")
	if err != nil {
		return "", err
	}
	servers := nameservers(text)
	for _, server := range servers {
		addr, err := netip.ParseAddr(server)
		if err != nil || addr != s.Gateway4 && addr != s.Gateway6 {
			return "", fmt.Errorf("resolv.conf names %q", server)
		}
	}
	if len(servers) == 0 { // then resolvers ask 127.0.0.1
		return "", errors.New("resolv.conf names no server")
	}
	return strings.Join(servers, " "), nil
}

// engineSockets are the sockets with which a process could leave by asking an
// engine or an agent on the host.
var engineSockets = []string{"docker.sock", "podman.sock", "containerd.sock", "crio.sock", "buildkitd.sock", "ssh-agent.sock", "control.sock"}

func checkMounts(_ context.Context, s QuickSpec) (string, error) {
	text, err := fs.ReadFile(s.Root, "proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	n := 0
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); n++ {
		f := strings.Fields(lines.Text()) // proc(5): 4th the root within its file system, 5th where
		if len(f) < 5 {
			return "", fmt.Errorf("mountinfo: cannot read %q", lines.Text())
		}
		for _, p := range f[3:5] {
			if slices.Contains(engineSockets, path.Base(p)) || slices.ContainsFunc(s.Forbidden, func(bad string) bool { return within(p, bad) }) {
				return "", fmt.Errorf("%s is mounted at %s", f[3], f[4])
			}
		}
	}
	for _, p := range append([]string{"/run/docker.sock", "/var/run/docker.sock"}, s.Forbidden...) {
		if _, err := fs.Stat(s.Root, strings.TrimPrefix(path.Clean(p), "/")); err == nil {
			return "", fmt.Errorf("%s exists", p)
		}
	}
	if n == 0 {
		return "", errors.New("the mount table is empty")
	}
	return fmt.Sprintf("%d mounts", n), nil
}

// within says that p is folder or lies in it.
func within(p, folder string) bool {
	folder = path.Clean(folder)
	return p == folder || strings.HasPrefix(p, strings.TrimSuffix(folder, "/")+"/")
}

func checkModel(ctx context.Context, s QuickSpec) (string, error) {
	url := "http://" + netip.AddrPortFrom(s.Gateway4, s.ModelPort).String() + "/health"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	transport := &http.Transport{DisableKeepAlives: true} // Proxy nil: directly
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s answers %q", url, resp.Status)
	}
	return url + " answers 200", nil
}
