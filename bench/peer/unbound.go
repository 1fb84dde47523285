package peer

import (
	"fmt"
	"net"
	"path/filepath"
)

// Unbound is Debian's unbound at listen, which has no name and logs every query to log.
// Its files are in dir.
func Unbound(listen, dir, log string) Spec {
	config := filepath.Join(dir, "unbound.conf")
	return Spec{
		Name:    "unbound",
		Command: []string{"/usr/sbin/unbound", "-d", "-c", config},
		Files:   map[string]string{config: unboundConfig(listen, dir, log)},
		Ready:   "udp:" + listen,
		Dir:     dir,
	}
}

func unboundConfig(listen, dir, log string) string {
	host, port, _ := net.SplitHostPort(listen) // it is refused by unbound if it is none
	return fmt.Sprintf(`server:
  interface: %[1]s@%[2]s
  access-control: 0.0.0.0/0 allow
  do-daemonize: no
  directory: "%[3]s"
  chroot: ""
  username: ""
  pidfile: ""
  module-config: "iterator"
  use-syslog: no
  logfile: "%[4]s"
  log-queries: yes
  local-zone: "." always_nxdomain
remote-control:
  control-enable: no
`, host, port, dir, log)
}
