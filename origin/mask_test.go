package origin

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestMask(t *testing.T) {
	rows := []struct{ args, want string }{ // arguments are parted by |
		// Nothing secret.
		{"curl|-sS|https://example.example/a?b=c", "curl -sS https://example.example/a?b=c"},
		{"git|push|origin|main", "git push origin main"},
		{"git|show|0123456789abcdef0123456789abcdef01234567", "git show 0123456789abcdef0123456789abcdef01234567"},
		{"python3|-m|http.server|-p|8080", "python3 -m http.server -p 8080"},
		{"ssh|-p|2222|host.example", "ssh -p 2222 host.example"},
		{"vllm|serve|--max-tokens|4096|--tokenizer|a/b", "vllm serve --max-tokens 4096 --tokenizer a/b"},
		{"go|test|-run|TestContainerHasNoNetwork2Interfaces|./verify", "go test -run TestContainerHasNoNetwork2Interfaces ./verify"},
		{"/home/me/Projects/Sallyport2/node_modules/.bin/tsc|--author|x", "/home/me/Projects/Sallyport2/node_modules/.bin/tsc --author x"},
		{"echo||two words|it's", `echo '' 'two words' 'it'\''s'`},
		{"tool|--no-auth|next", "tool --no-auth next"},
		{"docker|run|sha256:0123456789abcdef0123456789abcdef0123456789abcdef", "docker run sha256:0123456789abcdef0123456789abcdef0123456789abcdef"},
		// Options.
		{"tool|--token=S3CRET", "tool --token=***"},
		{"tool|--token|S3CRET|next", "tool --token *** next"},
		{"tool|--token|-S3CRET|next", "tool --token *** next"},
		{"tool|--api-key|S3CRET", "tool --api-key ***"},
		{"tool|-password|S3CRET", "tool -password ***"},
		{"tool|--accessToken=S3CRET", "tool --accessToken=***"},
		{"tool|--password|two words S3CRET", "tool --password ***"},
		{"tool|--password-stdin|--verbose", "tool --password-stdin --verbose"},
		{"tool|--set|db.password=S3CRET", "tool --set db.password=***"},
		{"tool|--env=DB_PASS=S3CRET", "tool --env=DB_PASS=***"},
		{"tool|--env=DB_PASS=S3CRET with blanks", "tool --env=DB_PASS=***"},
		// Variables.
		{"env|HF_TOKEN=S3CRET|make", "env HF_TOKEN=*** make"},
		{"env|AWS_SECRET_ACCESS_KEY=S3CRET|PGPASSWORD=S3CRET|MYSQL_PWD=S3CRET", "env AWS_SECRET_ACCESS_KEY=*** PGPASSWORD=*** MYSQL_PWD=***"},
		{"docker|run|-e|API_KEY2=S3CRET|-e|A=b", "docker run -e API_KEY2=*** -e A=b"},
		// Headers.
		{"curl|-H|Authorization: Bearer S3CRET", "curl -H 'Authorization: Bearer ***'"},
		{"curl|-H|authorization:S3CRET", "curl -H authorization:***"},
		{"curl|-HX-Api-Key: S3CRET", "curl '-HX-Api-Key: ***'"},
		{"curl|--header=Proxy-Authorization: Basic S3CRET", "curl '--header=Proxy-Authorization: Basic ***'"},
		{"curl|-H|Cookie: a=S3CRET; b=S3CRET", "curl -H 'Cookie: ***'"},
		{"curl|-H|Accept: text/html", "curl -H 'Accept: text/html'"},
		// URLs.
		{"git|clone|https://me:S3CRET@git.example/a.git", "git clone https://***@git.example/a.git"},
		{"git|clone|https://S3CRET@git.example/a.git", "git clone https://***@git.example/a.git"},
		{"curl|https://a.example/?user=x&access_token=S3CRET&y=z#key=S3CRET", "curl https://a.example/?user=x&access_token=***&y=z#key=***"},
		{"psql|postgres://u:S3CRET@db.example/x?sslmode=disable", "psql postgres://***@db.example/x?sslmode=disable"},
		// Programs' short options.
		{"curl|-u|me:S3CRET|https://a.example", "curl -u *** https://a.example"},
		{"curl|-ume:S3CRET", "curl -u***"},
		{"sudo|/usr/bin/mysql|-u|root|-pS3CRET", "sudo /usr/bin/mysql -u root -p***"},
		{"sshpass|-p|S3CRET|ssh|-l|me", "sshpass -p *** ssh -l me"},
		// Commands in an argument.
		{"sh|-c|TOKEN=S3CRET curl https://a.example", "sh -c 'TOKEN=*** curl https://a.example'"},
		{`bash|-c|curl -H "Authorization: Bearer S3CRET" https://a.example`, `bash -c 'curl -H "Authorization: Bearer ***" https://a.example'`},
		{`bash|-c|export PASSWORD="a S3CRET b" ; ls`, `bash -c 'export PASSWORD="*** *** ***" ; ls'`},
		{`bash|-c|curl -b "Cookie: a=S3CRET; b=S3CRET" -o x`, `bash -c 'curl -b "*** ***; ***" -o x'`},
		{`sh|-c|mysql -pS3CRET; ssh -p 22 a`, `sh -c 'mysql -p***; ssh -p 22 a'`},
		{`curl|-d|{"user":"x","password":"S3CRET \" S3CRET"}`, `curl -d '{"user":"x","password":"***"}'`},
		// By themselves.
		{"x|sk-ant-api03-S3CRETS3CRET", "x ***"},
		{"x|ghp_S3CRETS3CRETS3CRET|hf_S3CRETS3CRET|xoxb-S3CRET-S3CRET", "x *** *** ***"},
		{"x|AKIAS3CRETS3CRETXX", "x ***"},
		{"x|eyJhbGciOi.eyJS3CRET.S3CRET", "x ***"},
		{"x|aB3dE5gH7jK9mN1pQ3sT5vW7", "x ***"},
		{"x|/a/aB3dE5gH7jK9mN1pQ3sT5vW7/plain", "x /a/***/plain"},
		{"x|-----BEGIN RSA PRIVATE KEY-----\nS3CRET\n-----END RSA PRIVATE KEY-----", "x ***"},
	}
	for _, row := range rows {
		if got := Mask(strings.Split(row.args, "|")); got != row.want {
			t.Errorf("Mask of %s\n is     %s\n wanted %s", row.args, got, row.want)
		}
	}
}

func TestMaskIsBounded(t *testing.T) {
	for _, piece := range []string{"a", "ä", "'", "€"} {
		got := Mask([]string{strings.Repeat(piece, 4000)})
		if len(got) > maxText || !utf8.ValidString(got) || !strings.HasSuffix(got, "…") {
			t.Errorf("of many %q it is %d bytes: %q", piece, len(got), got[len(got)-10:])
		}
	}
}

func FuzzMask(f *testing.F) {
	f.Add("curl", "-H", "Authorization: Bearer")
	f.Add("sh", "-c", `a="b c" d='e`)
	f.Add("mysql", "-p", "--token")
	f.Add("--password", "", ":")
	const secret = "C4NARY"
	f.Fuzz(func(t *testing.T, a, b, c string) {
		if strings.Contains(a+b+c, secret) {
			return
		}
		for _, args := range [][]string{
			{a, b, c, "--token=" + secret},
			{a, b, c, "API_KEY=" + secret},
			{a, b, c, "Authorization: Bearer " + secret},
			{a, b, c, "https://me:" + secret + "@git.example/"},
			{a, b, c, "--password", secret, c},
			{"sh", "-c", "ls; TOKEN=" + secret + " " + b},
		} {
			got := Mask(args)
			if strings.Contains(got, secret) {
				t.Errorf("Mask of %q shows the secret: %q", args, got)
			}
			if len(got) > maxText {
				t.Errorf("Mask of %q is %d bytes", args, len(got))
			}
		}
	})
}
