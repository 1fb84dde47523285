package hub

import (
	"net/url"
	"strconv"
)

// Host is a host that a pull may reach: a name, or "*.NAME" for every name below
// it, and why.
type Host struct {
	Name string
	Port uint16
	Why  string
}

// hosts are the hub's own, and those that it redirects to. Sources: [1] the hub's
// machine-readable list, huggingface.co/.well-known/meta.json (lfsDomains,
// cdnDomains); [2] huggingface/hub-docs docs/hub/models-downloading.md,
// "Downloading behind a proxy or firewall" (pull requests 2628 and 2647 of
// 2026-07); [3] the same page before 2647, which dropped them as legacy; files
// uploaded long ago may still lie there. Hosts of the Xet protocol
// (cas-server.xethub…) are left out: the downloader speaks plain HTTP only.
var hosts = []Host{
	{"huggingface.co", 443, "the hub: API and small files"},            // [1][2]
	{"*.cdn.hf.co", 443, "the hub's CDN"},                              // [1] twelve names below it, [2] us.aws.cdn.hf.co, us.gcp.cdn.hf.co
	{"transfer.xethub.hf.co", 443, "the hub's storage (US)"},           // [1][2]
	{"transfer.xethub-eu.hf.co", 443, "the hub's storage (EU)"},        // [1][2]
	{"cdn-lfs.hf.co", 443, "the hub's LFS storage"},                    // [1]
	{"cdn-lfs-us-1.hf.co", 443, "the hub's LFS storage (US)"},          // [1][2]
	{"cdn-lfs-eu-1.hf.co", 443, "the hub's LFS storage (EU)"},          // [1][2]
	{"cas-bridge.xethub.hf.co", 443, "the hub's storage, plain HTTP"},  // [3]
	{"cdn-lfs.huggingface.co", 443, "the hub's LFS storage, legacy"},   // [3]
	{"cdn-lfs-us-1.huggingface.co", 443, "the hub's LFS, legacy (US)"}, // [3]
	{"cdn-lfs-eu-1.huggingface.co", 443, "the hub's LFS, legacy (EU)"}, // [3]
}

// Hosts are all that a pull of this job may reach, in one place. Another endpoint
// than the hub itself gets its own host alone: a mirror's further hosts are the
// user's to name.
func Hosts(j Job) []Host {
	var list []Host
	if j.Endpoint == "" || j.Endpoint == Endpoint {
		list = append(list, hosts...)
	} else {
		list = append(list, hostOf(j.Endpoint, "the hub of the configuration")...)
	}
	if !j.Encodings {
		return list
	}
	if j.EncodingsURL == "" {
		j.EncodingsURL = EncodingsURL
	}
	return append(list, hostOf(j.EncodingsURL, "vocabulary files")...)
}

// hostOf is the host of an https URL; none if it is not one.
func hostOf(raw, why string) []Host {
	u, err := url.Parse(raw)
	if err != nil || checkURL(u) != nil {
		return nil
	}
	port := uint64(443)
	if p := u.Port(); p != "" {
		if port, err = strconv.ParseUint(p, 10, 16); err != nil {
			return nil
		}
	}
	return []Host{{Name: u.Hostname(), Port: uint16(port), Why: why}}
}
