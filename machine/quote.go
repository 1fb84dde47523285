package machine

import (
	"errors"
	"fmt"
	"strings"
)

// Quote writes args as words of a POSIX shell, separated by spaces.
func Quote(args ...string) string {
	words := make([]string, len(args))
	for i, a := range args {
		words[i] = quote(a)
	}
	return strings.Join(words, " ")
}

func quote(arg string) string {
	if arg != "" && strings.Trim(arg, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789%+,-./:=@_") == "" && !strings.HasPrefix(arg, "=") {
		return arg
	}
	return "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
}

// maxCommandLine bounds a script with its arguments, encoded: Linux takes 128 KiB
// in one argument (execve(2), MAX_ARG_STRLEN).
const maxCommandLine = 120 << 10

// commandLine is a command line that runs a script in /bin/sh with args as its
// positional parameters. Any login shell reads it the same way: between its
// single quotes there is neither a quote, a backslash, an exclamation mark, nor
// anything but printable ASCII, which is where fish and csh differ from sh.
func commandLine(script string, args []string) (string, error) {
	if strings.Contains(script, "\x00") || strings.Contains(strings.Join(args, ""), "\x00") {
		return "", errors.New("a script or its arguments have a NUL byte")
	}
	line := `exec /bin/sh -c 'eval "$(printf %b "$1")"' sallyport ` + encode("set -- "+Quote(args...)+"\n"+script)
	if len(line) > maxCommandLine {
		return "", fmt.Errorf("a script and its arguments have %d bytes, at most %d are possible", len(line), maxCommandLine)
	}
	return line, nil
}

// encode writes text as one word, which printf %b (POSIX) turns back into it.
func encode(text string) string {
	var b strings.Builder
	b.WriteByte('\'')
	for _, c := range []byte(text) {
		if c < ' ' || c > '~' || strings.IndexByte(`'\!`, c) >= 0 {
			fmt.Fprintf(&b, `'\\'0%03o`, c)
			continue
		}
		b.WriteByte(c)
	}
	b.WriteByte('\'')
	return b.String()
}
