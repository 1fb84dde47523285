package config

import (
	"fmt"
	"net/url"
	"path"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/sallyport/sallyport/policy"
)

var hostName = lazily(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// IsDestination reports whether s may be an SSH destination. It is loose: package
// tunnel knows the rest. (A regular expression of \pC takes 80 ms to compile.)
func IsDestination(s string) bool {
	return s != "" && len(s) < 1024 && s[0] != '-' && utf8.ValidString(s) && utf8.RuneCountInString(s) <= 255 &&
		!strings.ContainsFunc(s, func(c rune) bool { return c == ' ' || unicode.Is(unicode.C, c) })
}

func (r *report) hosts(hosts []Host) {
	first := map[string]int{}
	for i := range hosts {
		h, at := &hosts[i], fmt.Sprintf("hosts[%d]", i)
		if !hostName().MatchString(h.Name) {
			r.add(at+".name", "not a name", "write letters, digits, dots, hyphens and underscores")
		} else if strings.EqualFold(h.Name, "local") {
			r.add(at+".name", "stands for this machine", "choose another name; this machine's settings are under local")
		} else if j, dup := first[strings.ToLower(h.Name)]; dup {
			r.add(at+".name", fmt.Sprintf("%s is the name of hosts[%d] already", quoted(h.Name), j), "names differ in more than case")
		} else {
			first[strings.ToLower(h.Name)] = i
		}
		if h.SSH == "" {
			h.SSH = h.Name
		} else if !IsDestination(h.SSH) {
			r.add(at+".ssh", "not an SSH destination", "write user@host, user@host:port, or an alias of ~/.ssh/config")
		}
		r.machine(at, &h.Machine)
	}
}

// machine checks how a machine runs model servers.
func (r *report) machine(at string, m *Machine) {
	if m.Runtime == "" {
		m.Runtime = RuntimeAuto
	}
	r.oneOf(at+".runtime", string(m.Runtime), string(RuntimeAuto), string(RuntimeDocker), string(RuntimePodman), string(RuntimeProcess))
	if m.Hardware != "" {
		r.oneOf(at+".hardware", string(m.Hardware), string(HardwareStrixHalo), string(HardwareCUDA), string(HardwareCPU))
	}
	if m.EngineSocket != "" {
		if err := checkUnixPath(m.EngineSocket); err != nil {
			message, _ := describe(err)
			r.add(at+".engine_socket", message, "write its path on that machine, for example /run/user/1000/podman/podman.sock")
		} else if m.Runtime == RuntimeProcess {
			r.add(at+".engine_socket", "has no effect with runtime: process", "remove one of the two")
		}
	}
	r.pathThere(at+".weights", m.Weights)
	r.pathThere(at+".folder", m.Folder)
}

// pathThere checks a path that is another machine's, perhaps.
func (r *report) pathThere(key, value string) {
	p := value
	if rest, ok := strings.CutPrefix(p, "~/"); ok {
		p = "/" + rest
	}
	switch {
	case value == "":
	case !path.IsAbs(p):
		r.add(key, "not an absolute path", "start it with / or ~/")
	case path.Clean(p) != strings.TrimSuffix(p, "/") || path.Clean(p) == "/":
		r.add(key, "not the plain path of a folder", "write it without . and .. and //")
	case hasControls(p) || strings.Contains(p, ":"): // a colon ends a path where an engine mounts it
		r.add(key, "a path with a colon or control characters", "choose another folder")
	}
}

// hub checks where weights come from.
func (r *report) hub(h Hub) {
	u, err := url.Parse(h.Endpoint)
	switch {
	case err != nil || u.Scheme != "https" || u.Host == "":
		r.add("hub.endpoint", "not the address of a hub", "write https://host or https://host:port")
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.Trim(u.Path, "/") != "":
		r.add("hub.endpoint", "more than host and port", "write https://host or https://host:port")
	default:
		if _, err := policy.Canonical(u.Hostname()); err != nil {
			r.add("hub.endpoint", "its host is no host name", "write https://host or https://host:port")
		}
		if port, err := strconv.ParseUint(u.Port(), 10, 16); u.Port() != "" && (err != nil || port == 0) {
			r.add("hub.endpoint", "no port between 1 and 65535", "write https://host or https://host:port")
		}
	}
	for i, host := range h.Hosts {
		if _, err := policy.Canonical(host); err != nil {
			r.add(fmt.Sprintf("hub.hosts[%d]", i), "not a host name", "write one exact name, for example cdn.example.org")
		}
	}
}
