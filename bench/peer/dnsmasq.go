package peer

import (
	"fmt"
	"net"
	"path/filepath"
)

// Dnsmasq is Debian's dnsmasq at listen, which has no name and logs every query to log.
// Its files are in dir.
func Dnsmasq(listen, dir, log string) Spec {
	config := filepath.Join(dir, "dnsmasq.conf")
	return Spec{
		Name:    "dnsmasq",
		Command: []string{"/usr/sbin/dnsmasq", "--keep-in-foreground", "--conf-file=" + config},
		Files:   map[string]string{config: dnsmasqConfig(listen, log)},
		Ready:   "udp:" + listen,
		Dir:     dir,
	}
}

func dnsmasqConfig(listen, log string) string {
	host, port, _ := net.SplitHostPort(listen) // it is refused by dnsmasq if it is none
	return fmt.Sprintf(`listen-address=%s
port=%s
bind-interfaces
no-resolv
no-hosts
address=/#/
log-queries
log-facility=%s
pid-file
`, host, port, log)
}
