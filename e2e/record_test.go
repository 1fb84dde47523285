//go:build lab

package e2e_test

import (
	"fmt"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/lab"
	"github.com/sallyport/sallyport/origin"
)

// try is an attempt of a scripted session: how it is made, and the one event that
// it must leave.
type try struct {
	script string // a line of shell, run by the session's script
	event  string // as described gives it
	or     string // what is as true; empty: nothing is
}

// tries are attempts of every layer, of several kinds and process depths. gate is
// the sandbox's own gateway address.
func tries(gate string) []try {
	web, web6 := lab.Web, lab.Web6
	var list []try
	add := func(script, event string) { list = append(list, try{script: script, event: event}) }
	for i, port := range []int{22, 25, 80, 443, 853, 8443} {
		script, parents := deeper("/run/sallyport/gateway probe tcp "+fmt.Sprint(web, ":", port), i)
		add(script, fmt.Sprintf("intercept tcp %s:%d GET %s/ by gateway%s", web, port, web, parents)) // the probe asks in HTTP
	}
	for _, to := range []string{"[" + web6 + "]:443", "169.254.169.254:80", "[fd00:ec2::254]:80", lab.LaptopLAN + ":22"} {
		host := netip.MustParseAddrPort(to).Addr().String()
		add("/run/sallyport/gateway probe tcp "+to, "intercept tcp "+to+" GET "+host+"/ by gateway < dash < bash")
	}
	for i, to := range []string{web + ":123", web + ":443", web + ":3478", web + ":4433", "[" + web6 + "]:443", "224.0.0.251:5353"} {
		script, parents := deeper("/run/sallyport/gateway probe udp "+to, i%3)
		list = append(list, try{script, "packet udp " + to + " by gateway" + parents, "packet udp " + to + " by unknown: " + origin.Gone})
	}
	add("/run/sallyport/gateway probe icmp "+web, "packet icmp "+web)
	add("/run/sallyport/gateway probe icmpv6 "+web6, "packet icmpv6 "+web6)
	dns := func(arguments, event string) {
		add("/run/sallyport/gateway probe dns "+arguments, "dns "+event+" by gateway < dash < bash")
	}
	dns("a.exfil.example", "udp a.exfil.example A")
	dns("b.exfil.example type=TXT via="+lab.DNS+":53", "udp b.exfil.example TXT")
	dns("c.exfil.example type=HTTPS via=["+lab.DNS6+"]:53", "udp c.exfil.example HTTPS")
	dns("e.exfil.example type=NULL", "udp e.exfil.example NULL")
	dns("f.exfil.example type=MX via="+lab.DNS+":53", "udp f.exfil.example MX")
	dns("d.exfil.example over=tcp via="+lab.DNS+":53", "tcp d.exfil.example A")
	add("/run/sallyport/gateway probe connect exfil.example:443", "proxy tcp CONNECT exfil.example:443 by gateway < dash < bash")
	add("/run/sallyport/gateway probe connect "+web+":443", "proxy tcp CONNECT "+web+":443 by gateway < dash < bash")
	add("/run/sallyport/gateway probe connect ["+web6+"]:443", "proxy tcp CONNECT "+web6+":443 by gateway < dash < bash")
	add("/run/sallyport/gateway probe http http://plain.example/x via="+gate+":3128", "proxy tcp GET plain.example:80/x by gateway < dash < bash")
	add("/run/sallyport/gateway probe http http://"+web+"/exfil", "intercept tcp "+web+":80 GET "+web+"/exfil by gateway < dash < bash")
	for _, path := range []string{"/server_info", "/v1/load_lora_adapter"} {
		add("/run/sallyport/gateway probe http http://"+gate+":8000"+path, "model tcp GET "+path+" by gateway < dash < bash")
	}
	return append(list, oddTries(web)...)
}

// deeper wraps a command in so many shells more, and says who its parents are.
func deeper(command string, depth int) (script, parents string) {
	for range depth {
		command = "sh -c " + quoted(command+"; true")
	}
	return command, strings.Repeat(" < dash", depth+1) + " < bash"
}

func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// perl is a program that connects or sends to web:port in an unusual way.
func perl(code, web string, port int, more string) string {
	return fmt.Sprintf("perl -MSocket -e %s %s %d %s", quoted("my $to = sockaddr_in($ARGV[1], inet_aton($ARGV[0]));"+code), web, port, more)
}

const (
	tcpSocket = `socket(my $s, AF_INET, SOCK_STREAM, 0) or die $!;`
	udpSocket = `socket(my $s, AF_INET, SOCK_DGRAM, 0) or die $!;`
	answered  = `connect($s, $to); sysread($s, my $b, 1);` // until the refusal
)

// oddTries are made by processes that are hard to tell of.
func oddTries(web string) []try {
	by := func(port int, who string) string { return fmt.Sprintf("intercept tcp %s:%d by %s", web, port, who) }
	const child = "perl < dash < bash"
	reused := `setsockopt($s, SOL_SOCKET, SO_REUSEADDR, 1); bind($s, sockaddr_in(45555, INADDR_ANY)) or die $!;`
	return []try{
		{perl(udpSocket+`send($s, "x", 0, $to); exit`, web, 1001, ""), fmt.Sprintf("packet udp %s:1001 by %s", web, child),
			fmt.Sprintf("packet udp %s:1001 by unknown: %s", web, origin.Gone)},
		{perl(tcpSocket+`fcntl($s, 4, 2048); connect($s, $to); exit`, web, 1002, ""), by(1002, child), by(1002, "unknown: "+origin.Gone)},
		{perl(`syscall(157, 4, 0, 0, 0, 0);`+tcpSocket+answered, web, 1003, ""), by(1003, "unknown: "+origin.Hidden), ""},
		{perl(tcpSocket+reused+answered, web, 1004, "first"), by(1004, child), ""},
		{perl(tcpSocket+reused+answered, web, 1005, "second"), by(1005, child), ""},
		{perl(tcpSocket+`my $c = fork; `+answered+`exit unless $c; waitpid($c, 0)`, web, 1006, ""), by(1006, "unknown: "+origin.Shared(2)), ""},
		{perl(udpSocket+`connect($s, $to); send($s, "x", 0); select(undef, undef, undef, 0.5)`, web, 1007, ""), fmt.Sprintf("packet udp %s:1007 by %s", web, child), ""},
		{perl(tcpSocket+answered, web, 1008, "--token=hf_0123456789abcdefghij"), by(1008, child), ""},
		{"cp /run/sallyport/gateway /tmp/innocent; /tmp/innocent probe tcp " + web + ":1009",
			fmt.Sprintf("intercept tcp %[1]s:1009 GET %[1]s/ by innocent < dash < bash", web), ""},
	}
}

// described is an event in a line: what was tried, and by whom.
func described(e audit.Event) string {
	what := e.Dst
	switch e.Layer {
	case audit.LayerDNS:
		what = e.Host + " " + e.Method
	case audit.LayerProxy:
		what = fmt.Sprintf("%s %s:%d%s", e.Method, e.Host, e.Port, e.Path)
	case audit.LayerModel:
		what = e.Method + " " + e.Path
	case audit.LayerIntercept:
		if e.Method != "" {
			what += " " + e.Method + " " + e.Host + e.Path
		}
	}
	line := fmt.Sprintf("%s %s %s", e.Layer, e.Proto, what)
	switch p := e.Process; {
	case p == nil:
	case p.Unknown != "":
		line += " by unknown: " + p.Unknown
	default:
		line += " by " + path.Base(p.Exe)
		for _, parent := range p.Parents {
			line += " < " + parent.Name
		}
	}
	if e.Count != 1 {
		line += fmt.Sprintf(" ×%d", e.Count)
	}
	return line
}

// TestRecordIsExact makes attempts of every kind: each is in the record once, with
// the process that made it or the reason why that is not known, and nothing else.
func TestRecordIsExact(t *testing.T) {
	onBoth(t, func(t *testing.T, l *lab.Lab) {
		u := setUp(t, l, "unix://"+standIn(t, l, toolTurns))
		before := l.Before(t)
		sh := openShell(u)
		sh.screen.send("sed -n 's/nameserver /gate''=/p' /etc/resolv.conf\n")
		sh.screen.expect(`gate=[0-9.]+`)
		gate := regexp.MustCompile(`gate=([0-9.]+)`).FindStringSubmatch(sh.screen.Text())[1]
		list := tries(netip.MustParseAddr(gate).String())
		var script strings.Builder
		for _, try := range list {
			script.WriteString(try.script + "\n")
		}
		u.write(u.project+"/record.sh", script.String())
		sh.screen.send("sh record.sh >out 2>&1; echo DO''NE\n")
		sh.screen.expect(`DONE`)
		root := try{event: fmt.Sprintf("intercept tcp %[1]s:1010 GET %[1]s/ by unknown: ", lab.Web) + origin.OtherUser(0)}
		if out, err := l.Laptop.Docker(u.ctx, "exec", "-u", "0", "sallyport-agent-"+sh.id, "/run/sallyport/gateway", "probe", "tcp", lab.Web+":1010"); err != nil {
			t.Logf("the attempt of root: %v %s", err, out) // a refusal has an exit code of its own
		}
		list = append(list, root)
		var events []audit.Event
		u.eventually("an event for each attempt", func() error {
			if events = u.events(sh.id); len(events) < len(list) {
				return fmt.Errorf("%d events of %d attempts", len(events), len(list))
			}
			return nil
		})
		compare(t, list, events)
		masked(t, events)
		l.NoLeak(t, before)
		sh.screen.send("exit\n")
		sh.screen.end()
		if out, err := u.command("gateway", "audit", "verify").CombinedOutput(); err != nil {
			t.Errorf("gateway audit verify: %v\n%s", err, out)
		}
	})
}

// compare checks that events are exactly those that the attempts must leave.
func compare(t *testing.T, list []try, events []audit.Event) {
	t.Helper()
	var left []string
	for _, e := range events {
		left = append(left, described(e))
	}
	for _, try := range list {
		i := slices.Index(left, try.event)
		if i < 0 && try.or != "" {
			i = slices.Index(left, try.or)
		}
		if i < 0 {
			t.Errorf("no event %q\n of %s", try.event, try.script)
			continue
		}
		left = slices.Delete(left, i, i+1)
	}
	if len(left) > 0 {
		t.Errorf("%d events of no attempt:\n%s", len(left), strings.Join(left, "\n"))
	}
}

// masked checks that a secret on a command line is not kept.
func masked(t *testing.T, events []audit.Event) {
	t.Helper()
	i := slices.IndexFunc(events, func(e audit.Event) bool { return e.Port == 1008 })
	if i < 0 || events[i].Process == nil {
		return // compare has said so
	}
	if command := events[i].Process.Command; strings.Contains(command, "hf_0123") || !strings.Contains(command, "--token=***") {
		t.Errorf("the secret on the command line is not masked: %q", command)
	}
}
