package origin

import (
	"path"
	"regexp"
	"strings"
	"unicode/utf8"
)

const (
	stars   = "***"
	maxText = 1024 // bytes of a command line as it is shown
)

// Mask returns a command line as one text of at most 1024 bytes, arguments with
// blanks or quotes in single quotes, in which *** stands for
//
//   - the value of an option, variable, header, query parameter or JSON member
//     whose name has a word for a secret (token, secret, password, key, auth, …):
//     --token=V, --api-key V, TOKEN=V, "Authorization: Bearer V", ?sig=V, "key":"V";
//   - what certain programs take by a short option (curl -u, mysql -p, …);
//   - user and password of a URL;
//   - what begins as the tokens of well-known services do (sk-, ghp_, hf_, AKIA, …),
//     a JSON web token, a private key;
//   - 24 characters and more that change between small letters, capitals and
//     digits as random ones do.
//
// It also looks into arguments that hold a command ("sh -c …"). What it cannot
// know stays: a secret without a name that looks like a word, a path or a
// hexadecimal number, as a commit does.
func Mask(args []string) string {
	m := masker{}
	shown := make([]string, len(args))
	for i, a := range args {
		if i > 0 && shellCommand.MatchString(args[i-1]) && m.next == plainWord {
			shown[i] = quote(m.text(a))
			continue
		}
		shown[i] = quote(m.argument(a))
	}
	text := strings.Join(shown, " ")
	if len(text) <= maxText {
		return text
	}
	end := maxText - len("…")
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + "…"
}

// want is what the next word is.
type want int

const (
	plainWord want = iota
	secretWord
	schemeWord // a secret, or the name of an authentication scheme before it
	secretRest // secret up to the end of the quotes
)

// masker goes through the words of a command line.
type masker struct {
	next    want
	options string // letters of the program's short options that take a secret
}

// shortOptions are those of programs that take a secret so.
var shortOptions = map[string]string{
	"curl": "ubU", "wget": "", "mysql": "p", "mysqldump": "p", "mysqladmin": "p", "mariadb": "p", "mariadb-dump": "p",
	"sshpass": "p", "redis-cli": "a", "ldapsearch": "w", "ldapmodify": "w", "smbclient": "U", "docker": "p", "podman": "p",
	"7z": "p", "7za": "p", "zip": "P", "unzip": "P", "mongo": "p", "mongosh": "p", "http": "a", "https": "a", "xh": "a",
}

func (m *masker) program(word string) {
	if options, ok := shortOptions[path.Base(word)]; ok {
		m.options = options
	}
}

var (
	separators   = regexp.MustCompile("[\\s\"'`;|&()<>{}]+")
	jsonMember   = regexp.MustCompile(`"([\w.-]+)"(\s*:\s*)"(?:[^"\\]|\\.)*"`)
	header       = regexp.MustCompile(`^([A-Za-z][\w-]*):(\s*)(?s:(.*))$`)
	assignment   = regexp.MustCompile(`^(-{0,2}[A-Za-z_][\w.-]*)=(?s:(.*))$`)
	longOption   = regexp.MustCompile(`^--[a-z][a-z0-9-]*(=.*)?$`)
	anyOption    = regexp.MustCompile(`^--?[A-Za-z][\w.-]*$`)
	inURL        = regexp.MustCompile(`(\w://)[^/?#\s]*@`)
	parameter    = regexp.MustCompile(`([?&;,#])([\w.\[\]-]+)=([^&;,#\s]*)`)
	shellCommand = regexp.MustCompile(`^-[a-z]*c$`) // of sh and its kind
	scheme       = regexp.MustCompile(`(?i)^(bearer|basic|digest|token|negotiate|apikey)$`)
	afterBearer  = regexp.MustCompile(`(?i)\b(bearer|basic)(\s+)[\w+/=.~-]{6,}`)
	wellKnown    = regexp.MustCompile(`\b(sk-|sk_live_|sk_test_|rk_live_|gh[pousr]_|github_pat_|glpat-|hf_|xox[a-z]-|ya29\.|npm_|pypi-|dop_v1_|SG\.|eyJ[\w-]{5,}\.)[\w.~+/=-]{6,}|\b(AKIA|ASIA)[A-Z0-9]{12,}|\bAIza[\w-]{30,}|-----BEGIN [A-Z ]*PRIVATE KEY-----(?s:.*)`)
	long         = regexp.MustCompile(`[\w+/=-]{24,}`)
)

// argument masks one argument, which may be a whole command.
func (m *masker) argument(a string) string {
	if !separators.MatchString(a) {
		return m.word(a)
	}
	if m.next == secretWord || m.next == schemeWord {
		m.next = plainWord
		return stars
	}
	if h := header.FindStringSubmatch(a); h != nil && secretName(h[1]) {
		first, rest, found := strings.Cut(h[3], " ")
		if found && scheme.MatchString(first) && rest != "" {
			return h[1] + ":" + h[2] + first + " " + stars
		}
		return h[1] + ":" + h[2] + stars
	}
	if s := assignment.FindStringSubmatch(a); s != nil && !separators.MatchString(s[1]) {
		if secretName(s[1]) {
			return s[1] + "=" + stars
		}
		return s[1] + "=" + m.argument(s[2])
	}
	return m.text(a)
}

// text masks words between blanks, quotes and the like.
func (m *masker) text(a string) string {
	a = jsonMember.ReplaceAllStringFunc(a, func(s string) string {
		part := jsonMember.FindStringSubmatch(s)
		if !secretName(part[1]) {
			return s
		}
		return `"` + part[1] + `"` + part[2] + `"` + stars + `"`
	})
	a = afterBearer.ReplaceAllString(a, "$1$2"+stars)
	a = wellKnown.ReplaceAllString(a, stars)
	var b strings.Builder
	for a != "" {
		at := separators.FindStringIndex(a)
		if at == nil {
			at = []int{len(a), len(a)}
		}
		word, gap := a[:at[0]], a[at[0]:at[1]]
		if word != "" {
			b.WriteString(m.word(word))
		}
		b.WriteString(gap)
		m.gap(gap)
		a = a[at[1]:]
	}
	m.next = plainWord
	return b.String()
}

// gap ends or begins a secret of several words.
func (m *masker) gap(gap string) {
	quoted := strings.ContainsAny(gap, "\"'`\n")
	switch {
	case m.next == secretRest && quoted:
		m.next = plainWord
	case (m.next == secretWord || m.next == schemeWord) && quoted:
		m.next = secretRest
	}
	if strings.ContainsAny(gap, ";|&\n(") && m.next != secretRest {
		m.options = ""
	}
}

// word masks a word without blanks.
func (m *masker) word(w string) string {
	next := m.next
	if next != secretRest {
		m.next = plainWord
	}
	switch {
	case next == secretRest:
		return stars
	case next == schemeWord && scheme.MatchString(w):
		m.next = secretWord
		return w
	case next != plainWord && !longOption.MatchString(w):
		return stars
	}
	if s := m.short(w); s != "" {
		return s
	}
	if s := assignment.FindStringSubmatch(w); s != nil {
		if !secretName(s[1]) {
			return s[1] + "=" + m.word(s[2])
		}
		if s[2] == "" {
			m.next = secretWord
			return w
		}
		return s[1] + "=" + stars
	}
	if name, value, ok := strings.Cut(w, ":"); ok && !strings.HasPrefix(value, "//") && secretName(name) {
		m.next = plainWord
		if value != "" {
			return name + ":" + stars
		}
		m.next = schemeWord
		if strings.Contains(strings.ToLower(name), "cookie") {
			m.next = secretRest
		}
		return w
	}
	if anyOption.MatchString(w) && secretName(w) {
		m.next = secretWord
		return w
	}
	m.program(w)
	return inside(w)
}

// short masks -pVALUE, and has the word after -p masked, for programs known to
// take a secret so; empty: w is no such option.
func (m *masker) short(w string) string {
	if len(w) < 2 || w[0] != '-' || !strings.Contains(m.options, w[1:2]) {
		return ""
	}
	if len(w) == 2 {
		m.next = secretWord
		return w
	}
	if anyOption.MatchString(w) && secretName(w) {
		return "" // -password, which some programs spell so
	}
	return w[:2] + stars
}

// inside masks parts of a word: of a URL, tokens, what looks random.
func inside(w string) string {
	w = inURL.ReplaceAllString(w, "${1}"+stars+"@")
	w = parameter.ReplaceAllStringFunc(w, func(s string) string {
		part := parameter.FindStringSubmatch(s)
		if !secretName(part[2]) || part[3] == "" {
			return s
		}
		return part[1] + part[2] + "=" + stars
	})
	w = wellKnown.ReplaceAllString(w, stars)
	return long.ReplaceAllStringFunc(w, func(s string) string {
		parts := strings.Split(s, "/")
		for i, p := range parts {
			if len(p) >= 24 && random(p) {
				parts[i] = stars
			}
		}
		if s = strings.Join(parts, "/"); random(s) { // base64 has slashes too
			return stars
		}
		return s
	})
}

// random says whether small letters, capitals and digits alternate as in a
// random text: at two of five places, and a few of each.
func random(s string) bool {
	var count [3]int
	changes, last := 0, -1
	for i := range len(s) {
		class := -1
		switch c := s[i]; {
		case c >= 'a' && c <= 'z':
			class = 0
		case c >= 'A' && c <= 'Z':
			class = 1
		case c >= '0' && c <= '9':
			class = 2
		default:
			continue
		}
		count[class]++
		if class != last && last >= 0 {
			changes++
		}
		last = class
	}
	return min(count[0], count[1], count[2]) >= 2 && changes*5 >= len(s)*2
}

// quote puts an argument into single quotes where a reader could not tell its
// ends.
func quote(a string) string {
	if a != "" && !strings.ContainsAny(a, " \t\n'\"") {
		return a
	}
	return "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
}
