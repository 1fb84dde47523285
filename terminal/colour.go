package terminal

import (
	"os"
	"strings"
)

// Colours says whether to colour what is written to f: NO_COLOR (any value)
// forbids, CLICOLOR_FORCE (not empty, not "0") demands, else f must be a
// terminal that is not TERM=dumb. environ is as of os.Environ; the last of
// several equal names counts.
func Colours(environ []string, f *os.File) bool {
	return colours(environ, IsTerminal(f))
}

func colours(environ []string, isTerminal bool) bool {
	env := map[string]string{}
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		env[name] = value
	}
	force := env["CLICOLOR_FORCE"]
	switch {
	case env["NO_COLOR"] != "":
		return false
	case force != "" && force != "0":
		return true
	case env["TERM"] == "dumb":
		return false
	}
	return isTerminal
}
