package origin

import (
	"slices"
	"strings"
	"unicode"
)

var (
	secretWords = []string{"pass", "pwd", "auth", "oauth", "key", "keys", "pat", "jwt", "sig", "signature", "bearer", "pin",
		"otp", "psk", "sshpass", "dbpass", "credentials", "secrets", "cookies", "passin", "passout"}
	secretEnds = []string{"token", "secret", "password", "passwd", "passphrase", "passwort", "key", "pwd", "authorization", "credential", "cookie"}
)

// secretName says whether the name of an option, a variable, a header or the like
// is that of a secret: one of its words is, or ends so. Words are told by
// separators and capitals.
func secretName(name string) bool {
	name = strings.TrimLeft(name, "-")
	for _, no := range []string{"no-", "without-", "disable-"} {
		if strings.HasPrefix(strings.ToLower(name), no) {
			return false
		}
	}
	for part := range strings.FieldsFuncSeq(name, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
		if secretPart(part) {
			return true
		}
		start := 0 // "accessToken", "APIKey"
		for i := 1; i < len(part); i++ {
			if isCapital(part[i]) && (!isCapital(part[i-1]) || i+1 < len(part) && !isCapital(part[i+1])) {
				if secretPart(part[start:i]) {
					return true
				}
				start = i
			}
		}
		if start > 0 && secretPart(part[start:]) {
			return true
		}
	}
	return false
}

func isCapital(c byte) bool { return c >= 'A' && c <= 'Z' }

func secretPart(word string) bool {
	word = strings.TrimRight(strings.ToLower(word), "0123456789")
	return slices.Contains(secretWords, word) || slices.ContainsFunc(secretEnds, func(end string) bool { return strings.HasSuffix(word, end) })
}
