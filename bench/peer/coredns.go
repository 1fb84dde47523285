package peer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
)

// CoreDNSVersion is that of the module.
const CoreDNSVersion = "v1.15.0"

// The program is built for itself: the project's own module has nothing of CoreDNS.
const (
	coreDNSModule = "module coredns\n\ngo 1.26.0\n\nrequire github.com/coredns/coredns " + CoreDNSVersion + "\n"
	coreDNSMain   = `package main

import (
	"github.com/coredns/coredns/coremain"
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/log"
	_ "github.com/coredns/coredns/plugin/template"
)

func main() { coremain.Run() }
`
)

// BuildCoreDNS returns the path of a CoreDNS with the plugins that the case needs, in
// the user's cache folder. It is built unless it is there.
func BuildCoreDNS(ctx context.Context) (program string, err error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "sallyport-bench", "coredns-"+CoreDNSVersion)
	program = filepath.Join(dir, "coredns")
	if _, err := os.Stat(program); !errors.Is(err, os.ErrNotExist) {
		return program, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	for name, text := range map[string]string{"go.mod": coreDNSModule, "main.go": coreDNSMain} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return "", err
		}
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", program+".new", ".")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-mod=mod", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build CoreDNS: %w: %s", err, out)
	}
	return program, os.Rename(program+".new", program)
}

// CoreDNS is a CoreDNS at listen, which has no name and logs every query to its
// standard output. Its files are in dir.
func CoreDNS(program, listen, dir string) Spec {
	config := filepath.Join(dir, "Corefile")
	return Spec{
		Name:    "coredns",
		Command: []string{program, "-conf", config},
		Files:   map[string]string{config: coreDNSConfig(listen)},
		Ready:   "udp:" + listen,
		Dir:     dir,
	}
}

func coreDNSConfig(listen string) string {
	host, port, _ := net.SplitHostPort(listen) // it is refused by CoreDNS if it is none
	return fmt.Sprintf(`.:%s {
	bind %s
	log
	errors
	template ANY ANY {
		rcode NXDOMAIN
	}
}
`, port, host)
}
