package metrics

import (
	"slices"
	"unicode/utf8"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/policy"
)

// other is the value of a label for everything that has no value of its own.
const other = "other"

// maxLabel bounds a label that comes from the configuration, in bytes.
const maxLabel = 64

// The fixed sets. Each one's last value is for what is none of the others.
var (
	layers = []string{string(audit.LayerModel), string(audit.LayerProxy), string(audit.LayerIntercept), string(audit.LayerDNS),
		string(audit.LayerPacket), string(audit.LayerControl), other}
	verdicts = []string{policy.Allow.String(), policy.Deny.String(), other}
	origins  = []string{"agent", "proof", "pull", other}
	statuses = []string{"1xx", "2xx", "3xx", "4xx", "5xx", other}
)

// oneOf is value if it is among set, else other.
func oneOf(set []string, value string) string {
	if slices.Contains(set, value) {
		return value
	}
	return other
}

// origin says whose attempt it was: a pull's, the proof's before an agent starts,
// an agent's, or that of nothing that is a sandbox.
func origin(s audit.Subject) string {
	switch {
	case s.Agent == "proof" || s.Agent == "pull":
		return s.Agent
	case s.Sandbox == "" || s.Sandbox == "unknown":
		return other
	}
	return "agent"
}

// status is the class of an HTTP status.
func status(code int) string {
	if class := code / 100; class >= 1 && class <= 5 {
		return statuses[class-1]
	}
	return other
}

// label makes a name of the configuration one that any monitor can show.
func label(name string) string {
	name = audit.Printable(name)
	if len(name) <= maxLabel {
		return name
	}
	end := maxLabel
	for !utf8.RuneStart(name[end]) {
		end--
	}
	return name[:end]
}
