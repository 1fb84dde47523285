package field

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/config"
)

// What is written as the user's configuration is one, and says what the case wants.
func TestConfigIsOne(t *testing.T) {
	for _, c := range []struct {
		what string
		c    Config
		want string // endpoint
	}{
		{"nothing", Config{}, "unix:///home/lab/idle.sock"},
		{"all", Config{Endpoint: "http://172.17.0.1:8000", Host: true, Extra: "audit: {keep: 1d}\n",
			Allow: []string{`{host: "allowed.example", ports: [443]}`, `{host: "*.b.example", ports: [80, 443]}`}}, "http://172.17.0.1:8000"},
	} {
		path := filepath.Join(t.TempDir(), "config.yaml")
		if err := os.WriteFile(path, []byte(c.c.yaml("/home/lab/idle.sock")), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := config.Load(config.Options{Path: path})
		if err != nil {
			t.Fatalf("%s: %v\n%s", c.what, err, c.c.yaml("/home/lab/idle.sock"))
		}
		if len(got.Models) != 1 || got.Models[0].Name != Model || got.Models[0].Endpoint.String() != c.want || len(got.Policy.Allow) != len(c.c.Allow) {
			t.Errorf("%s: %+v", c.what, got)
		}
		if (len(got.Hosts) == 1) != c.c.Host {
			t.Errorf("%s: hosts %+v", c.what, got.Hosts)
		}
	}
}

func TestBoundIn(t *testing.T) {
	const table = `   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  512: 010011AC:14E9 00000000:0000 07 00000000:00000000 00:00000000 00000000  1000        0 1 2 0 0
  513: 00000000:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 2 2 0 0
  514: 00000000000000000000000000000000:0202 00000000000000000000000000000000:0000 07 00000000:00000000 00:00000000 00000000 0 0 3 2 0 0
`
	for address, want := range map[string]bool{
		"172.17.0.1:5353": true, "172.17.0.2:5353": false, "172.17.0.1:5354": false, // one address
		"172.17.0.1:53": true, "[2001:db8::1]:53": true, "172.17.0.1:514": true, // every address
		"172.17.0.1:0": false,
	} {
		if got := boundIn(table, netip.MustParseAddrPort(address)); got != want {
			t.Errorf("%s: %t", address, got)
		}
	}
}

func TestEnding(t *testing.T) {
	var e ending
	for range 3 {
		if n, err := e.Write([]byte(strings.Repeat("x", endingSize) + "\n")); err != nil || n != endingSize+1 {
			t.Fatal(n, err)
		}
	}
	_, _ = e.Write([]byte("the last\n")) // never fails
	if text := e.String(); len(text) > endingSize || !strings.HasSuffix(text, "x\nthe last") {
		t.Errorf("%d bytes: …%s", len(text), text[max(0, len(text)-20):])
	}
}
