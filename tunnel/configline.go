package tunnel

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// splitLine splits a configuration line as OpenSSH does: a keyword, an optional
// "=", arguments with optional quotes, and a comment. why is not empty if the
// arguments could be misunderstood further on.
func splitLine(line string) (key string, args []string, why string) {
	line = strings.Trim(line, " \t\r\f")
	if line == "" || line[0] == '#' {
		return "", nil, ""
	}
	end := strings.IndexAny(line, " \t=")
	if end < 0 {
		return strings.ToLower(strings.Trim(line, `"`)), nil, "no value"
	}
	key = strings.ToLower(strings.Trim(line[:end], `"`))
	rest := strings.TrimLeft(line[end:], " \t")
	if strings.HasPrefix(rest, "=") {
		rest = strings.TrimLeft(rest[1:], " \t")
	}
	args, why = splitArgs(rest)
	if why == "" && len(args) == 0 {
		why = "no value"
	}
	if why == "" && slices.ContainsFunc(args, ambiguous) {
		why = "a value with such characters is left to OpenSSH"
	}
	return key, args, why
}

// splitArgs splits at blanks outside quotes, up to a comment.
func splitArgs(s string) (args []string, why string) {
	if strings.ContainsRune(s, '\\') {
		return nil, "backslashes are left to OpenSSH"
	}
	for {
		s = strings.TrimLeft(s, " \t")
		if s == "" || s[0] == '#' {
			return args, ""
		}
		if q := s[0]; q == '"' || q == '\'' {
			end := strings.IndexByte(s[1:], q)
			if end < 0 {
				return nil, "a quote is not closed"
			}
			args, s = append(args, s[1:end+1]), s[end+2:]
			if s != "" && s[0] != ' ' && s[0] != '\t' {
				return nil, "text right after a quote is left to OpenSSH"
			}
			continue
		}
		end := strings.IndexAny(s, " \t")
		if end < 0 {
			end = len(s)
		}
		args, s = append(args, s[:end]), s[end:]
	}
}

// ambiguous says whether the library could read arg as anything but itself.
func ambiguous(arg string) bool {
	return arg == "" || strings.TrimSpace(arg) != arg || !utf8.ValidString(arg) ||
		strings.ContainsFunc(arg, func(r rune) bool { return r < ' ' || r == 0x7f || strings.ContainsRune(`#"'`, r) })
}
