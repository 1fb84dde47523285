package peer

import (
	"fmt"
	"path/filepath"
	"strings"
)

// Squid is Debian's squid as a forward proxy at listen: what CONNECTs to one of allow
// ("name:port") passes, all else is refused. Its log goes the way that Debian has
// set up, by a process of its own, to dir.
func Squid(listen, dir string, allow ...string) Spec {
	config := filepath.Join(dir, "squid.conf")
	return Spec{
		Name:    "squid",
		Command: []string{"/usr/sbin/squid", "-N", "-f", config},
		Files:   map[string]string{config: squidConfig(listen, dir, allow)},
		Ready:   "tcp:" + listen,
		Dir:     dir,
	}
}

func squidConfig(listen, dir string, allow []string) string {
	var rules strings.Builder
	for i, target := range allow {
		name, port, _ := strings.Cut(target, ":")
		fmt.Fprintf(&rules, "acl name%d dstdomain %s\nacl port%[1]d port %[3]s\nhttp_access allow CONNECT name%[1]d port%[1]d\n", i, name, port)
	}
	return fmt.Sprintf(`http_port %s
%shttp_access deny all
cache deny all
access_log daemon:%[3]s/access.log squid
cache_log %[3]s/cache.log
pid_filename %[3]s/squid.pid
coredump_dir %[3]s
visible_hostname laptop.example
pinger_enable off
netdb_filename none
shutdown_lifetime 0 seconds
`, listen, rules.String(), dir)
}
