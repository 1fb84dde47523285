package peer

import (
	"fmt"
	"path/filepath"
	"strings"
)

// Tinyproxy is Debian's tinyproxy as a forward proxy at listen: what CONNECTs to one of
// allow ("name:port") passes, all else is refused by its filter. It logs to dir.
func Tinyproxy(listen, dir string, allow ...string) Spec {
	config, filter := filepath.Join(dir, "tinyproxy.conf"), filepath.Join(dir, "filter")
	host, port, _ := strings.Cut(listen, ":")
	names, ports := "^$\n", "ConnectPort 443\n"
	for _, target := range allow {
		name, port, _ := strings.Cut(target, ":")
		names += "^" + strings.ReplaceAll(name, ".", `\.`) + "$\n"
		ports += "ConnectPort " + port + "\n"
	}
	return Spec{
		Name:    "tinyproxy",
		Command: []string{"/usr/bin/tinyproxy", "-d", "-c", config},
		Files: map[string]string{filter: names, config: fmt.Sprintf(`Listen %s
Port %s
%sTimeout 600
MaxClients 300
LogFile "%[4]s/tinyproxy.log"
LogLevel Connect
Filter "%[5]s"
FilterExtended On
FilterDefaultDeny Yes
`, host, port, ports, dir, filter)},
		Ready: "tcp:" + listen,
		Dir:   dir,
	}
}
