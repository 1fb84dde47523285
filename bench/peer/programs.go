package peer

import "context"

// Program is a small peer or origin of ours. It ends when ctx does; then nil is no
// failure.
type Program func(ctx context.Context, args []string) error

// programs are the subcommands of bench/cmd/peer. Each is in a file of its own.
var programs = map[string]Program{
	"hello":        hello,
	"alone":        Alone,
	"farend":       FarEnd,
	"goproxy":      Goproxy,
	"tunnel":       Tunnel,
	"origin":       Origin,
	"reverseproxy": ReverseProxy,
}

// Lookup finds one by its name.
func Lookup(name string) (Program, bool) {
	p, ok := programs[name]
	return p, ok
}
