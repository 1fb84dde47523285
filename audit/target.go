package audit

import (
	"cmp"
	"net"
	"net/netip"
	"path"
	"strconv"
	"strings"

	"github.com/sallyport/sallyport/policy"
)

// Denied says whether e was refused: whatever was not allowed.
func (e Event) Denied() bool {
	return e.Verdict != policy.Allow.String()
}

// Target names what an attempt was aimed at, in one form for all attempts at it:
// host and port in lower case, the name alone of a DNS query, method and path at
// the model endpoint. It is printable and bounded; empty: nothing is known.
func Target(e Event) string {
	return column(target(e))
}

func target(e Event) string {
	switch {
	case e.Layer == LayerModel:
		return cmp.Or(strings.TrimSpace(e.Method+" "+e.Path), e.Host, e.Dst)
	case e.Host == "":
		return cmp.Or(strings.ToLower(e.Dst), e.Reason)
	case e.Layer == LayerDNS || e.Port == 0:
		return strings.ToLower(e.Host)
	}
	return strings.ToLower(net.JoinHostPort(unbracket(e.Host), strconv.Itoa(int(e.Port))))
}

// Host is the name or address that an attempt was aimed at, without its port, in
// lower case: the name it asked for if one is known. It is printable and bounded;
// empty: nothing is known.
func Host(e Event) string {
	host := cmp.Or(e.Host, e.Dst)
	if ap, err := netip.ParseAddrPort(host); err == nil {
		host = ap.Addr().String()
	}
	return column(strings.ToLower(unbracket(host)))
}

func unbracket(host string) string {
	return strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
}

// processName is the base name of e's executable; empty: unknown.
func processName(e Event) string {
	if e.Process == nil || e.Process.Exe == "" {
		return ""
	}
	return column(path.Base(e.Process.Exe))
}
