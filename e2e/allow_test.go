//go:build lab

package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/lab"
)

// A rule lets its host through, at its port and through the proxy, and nothing
// else. It takes effect with the next launcher, also while a gateway runs.
func TestAllowedHost(t *testing.T) {
	onBoth(t, func(t *testing.T, l *lab.Lab) {
		u := setUp(t, l, "unix:///run/models/none.sock")
		const script = `for url in https://docs.allowed.example/ https://docs.allowed.example:8443/ https://allowed.example/ https://other.example/; do
curl -sk -o /dev/null -m 20 -w "$url %{http_connect} %{http_code}\n" "$url"
done; curl -sk -o /dev/null -m 20 -w "direct %{http_code}\n" --noproxy '*' https://docs.allowed.example/; true`
		shell := func() string {
			t.Helper()
			out, err := u.command("launcher", "-q", "shell", "demo", "--", "-c", script).Output()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			return string(out)
		}
		if out := shell(); strings.Contains(out, " 200 ") {
			t.Errorf("without a rule:\n%s", out)
		}
		path := filepath.Join(l.Laptop.Home, ".config/sallyport/config.yaml")
		config, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		u.write(path, strings.Replace(string(config), `"*.example.org"`, `"*.allowed.example"`, 1))
		const want = `https://docs.allowed.example/ 200 200
https://docs.allowed.example:8443/ 403 000
https://allowed.example/ 403 000
https://other.example/ 403 000
direct 000
`
		if out := shell(); out != want {
			t.Errorf("got\n%s\nwant\n%s", out, want)
		}
		allowed := 0
		for _, e := range u.events("") {
			if e.Layer == audit.LayerProxy && e.Verdict == "allowed" {
				allowed++
				if e.Host != "docs.allowed.example" || e.Port != 443 || e.BytesOut == 0 || e.Rule == "" {
					t.Errorf("%+v", e)
				}
			}
		}
		if allowed != 1 {
			t.Errorf("%d events of what was allowed", allowed)
		}
	})
}
