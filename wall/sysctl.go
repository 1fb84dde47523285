package wall

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
)

// Sysctls returns what the containers of the wall and of holders must be created
// with, since a new network namespace inherits the host's values and none can be
// written later. src_valid_mark=1, which wg-quick sets on a host, would make
// every connection through tproxy time out. addr_gen_mode=1: no fe80 address, so
// that link-local targets reach the wall like any other. Without the ICMP limits
// every refusal is told at once, not only the first few of a second. arp_ignore=2:
// who asks under foreign addresses gets no entries in the table of neighbours, of
// which all namespaces of the machine have one together. arp_notify=0 and
// ndisc_notify=0: a kernel tells nobody of its addresses, so who does is a process.
func Sysctls(ipv6 bool) map[string]string {
	set := map[string]string{
		"net.ipv4.ip_forward":                  "0",
		"net.ipv4.ip_unprivileged_port_start":  "0",
		"net.ipv4.icmp_ratemask":               "0",
		"net.ipv4.conf.all.arp_ignore":         "2",
		"net.ipv4.conf.all.arp_notify":         "0",
		"net.ipv4.conf.default.arp_notify":     "0",
		"net.ipv4.conf.all.src_valid_mark":     "0",
		"net.ipv4.conf.default.src_valid_mark": "0",
		"net.ipv4.conf.all.rp_filter":          "0",
		"net.ipv4.conf.default.rp_filter":      "0",
		"net.ipv4.conf.all.route_localnet":     "0",
		"net.ipv4.conf.default.route_localnet": "0",
	}
	if ipv6 {
		for _, scope := range []string{"all", "default"} {
			set["net.ipv6.conf."+scope+".disable_ipv6"] = "0"
			set["net.ipv6.conf."+scope+".forwarding"] = "0"
			set["net.ipv6.conf."+scope+".accept_ra"] = "0"
			set["net.ipv6.conf."+scope+".ndisc_notify"] = "0"
		}
		set["net.ipv6.conf.default.addr_gen_mode"] = "1"
		set["net.ipv6.icmp.ratelimit"] = "0"
	}
	return set
}

// HasIPv6 reports whether this kernel has IPv6.
func HasIPv6() bool {
	_, err := os.Stat("/proc/sys/net/ipv6/conf/all")
	return err == nil
}

// checkSysctls fails if a value is not as it must be, but for IPv6 being
// disabled, which it reports.
func checkSysctls(want map[string]string) (ipv6 bool, err error) {
	ipv6 = HasIPv6() && readSysctl("net.ipv6.conf.all.disable_ipv6") == "0"
	for name, value := range want {
		if strings.HasPrefix(name, "net.ipv6.") && !ipv6 {
			continue
		}
		if got := readSysctl(name); got != value {
			return ipv6, fmt.Errorf("sysctl %s is %q, not %q; hint: this container must be started by launcher, which sets it", name, got, value)
		}
	}
	return ipv6, nil
}

// readSysctl returns the value, or "" if there is none.
func readSysctl(name string) string {
	data, err := os.ReadFile(filepath.Join("/proc/sys", strings.ReplaceAll(name, ".", "/")))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// isFallback reports whether link is one that the kernel makes by itself in each
// network namespace once a tunnel module is loaded; it cannot be deleted.
func isFallback(link netlink.Link) bool {
	fallbacks := []string{"tunl0", "gre0", "gretap0", "erspan0", "sit0", "ip6tnl0", "ip6gre0", "ip_vti0", "ip6_vti0"}
	return slices.Contains(fallbacks, link.Attrs().Name)
}
