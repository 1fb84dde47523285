package pull

import (
	"encoding/pem"
	"errors"
	"fmt"
	"os"
)

// bundles are where systems keep the certificates that they trust: certFiles of
// Go's crypto/x509/root_linux.go. The downloader's container has none.
var bundles = [...]string{
	"/etc/ssl/certs/ca-certificates.crt",                // Debian, Ubuntu, Gentoo, Arch
	"/etc/pki/tls/certs/ca-bundle.crt",                  // Fedora, RHEL 6
	"/etc/ssl/ca-bundle.pem",                            // openSUSE
	"/etc/pki/tls/cacert.pem",                           // OpenELEC
	"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", // CentOS, RHEL 7
	"/etc/ssl/cert.pem",                                 // Alpine
}

// maxRoots bounds a file of certificates, in bytes. Debian's has 220 kB.
const maxRoots = 2 << 20

// Roots are the certificates that this machine trusts and those in the file own,
// as PEM, for a Job. own may be empty; a file that is named must be readable.
func Roots(own string) (string, error) {
	return roots(own, bundles[:])
}

func roots(own string, bundles []string) (string, error) {
	var all []byte
	if own != "" {
		data, err := certificates(own)
		if err != nil {
			return "", fmt.Errorf("read hub.ca: %w; hint: it names a file of PEM certificates", err)
		}
		all = append(data, '\n')
	}
	for _, name := range bundles {
		if data, err := certificates(name); err == nil {
			return string(append(all, data...)), nil
		}
	}
	if len(all) == 0 {
		return "", errors.New("this machine has no certificates to trust the hub by; hint: install ca-certificates, or name a file as hub.ca")
	}
	return string(all), nil
}

func certificates(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxRoots {
		return nil, fmt.Errorf("%s is no file of certificates", name)
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	if block, _ := pem.Decode(data); block == nil || block.Type != "CERTIFICATE" {
		return nil, fmt.Errorf("%s holds no PEM certificate", name)
	}
	return data, nil
}
