//go:build lab

package e2e_test

import "flag"

var (
	allProbes  = flag.Bool("mutants.all", false, "run the whole battery on each mutant")
	writeTable = flag.String("mutants.write", "", "write what found each mutant to this `file` of the repository")
)

const (
	rulesFile  = "wall/rules.go"
	helperFile = "containers/helper.go"
	agentFile  = "containers/agent.go"
)

// open lets through, in the wall, whatever no other rule has refused.
var open = []edit{
	{rulesFile, "		refuse(ruleOther),\n", "		[]expr.Any{accept},\n"},
	{rulesFile, "policy := nftables.ChainPolicyDrop", "policy := nftables.ChainPolicyAccept"},
}

var mutants = []mutant{
	{"an uplink left in the wall, which forwards", append([]edit{
		{helperFile, `host.NetworkMode = "none"`, `host.NetworkMode = "none"
	if len(s.Cmd) > 0 && s.Cmd[0] == "wall" {
		host.NetworkMode = "bridge"
	}`},
		{"wall/wall.go", `if name != "lo" && !isFallback(link) {`, `if name == "" {`},
		{"wall/keep.go", `if name == "lo" || isFallback(link) || isPlug(link) {`, `if name != "" {`},
		{"wall/sysctl.go", `"net.ipv4.ip_forward":                  "0"`, `"net.ipv4.ip_forward":                  "1"`},
	}, open...), []string{"udp-*", "icmp-*"}},
	{"forwarding on, and open between sandboxes", append([]edit{
		{"wall/sysctl.go", `"net.ipv4.ip_forward":                  "0"`, `"net.ipv4.ip_forward":                  "1"`},
	}, open...), []string{"other-sandbox*", "udp-*"}},
	{"no rule for what is neither TCP nor DNS", []edit{
		{rulesFile, "		refuse(ruleOther),\n", "		[]expr.Any{drop},\n"},
	}, []string{"udp-*", "icmp-*"}},
	{"no rule for spoofed sources", []edit{
		{rulesFile, "PutUint32(0)), refuse(ruleSpoof)))", "PutUint32(0)), setMark(ruleSpoof)))"},
	}, []string{"spoofed-*"}},
	{"no rule for segments out of nowhere", []edit{
		{rulesFile, "join(protocol(unix.IPPROTO_TCP), refuse(ruleStray))", "join(protocol(unix.IPPROTO_TCP), accept0)"},
		{rulesFile, "func rules() [][]expr.Any {", "var accept0 = []expr.Any{accept}\n\nfunc rules() [][]expr.Any {"},
	}, []string{"odd-segments*"}},
	{"no route to the gateway's sockets", []edit{
		{"wall/plug.go", "if err := netlink.RouteReplace(route); err != nil {", "if route.Table = 99; netlink.RouteReplace(route) != nil {"},
	}, []string{"tcp-*", "start-proof"}},
	{"a proxy that trusts Host", []edit{
		{"proxy/grant.go", "g.host, g.port, err = urlTarget(r.URL)", `g.host, g.port, err = parseTarget(withPort(hostHeader, ":80"))`},
	}, []string{"proxy"}},
	{"a proxy that does not record", []edit{
		{"proxy/forward.go", "if !s.rec.record(g.event) {", "if s.rec.broken() {"},
		{"proxy/quick.go", "if !q.s.rec.record(e) {", "if q.s.rec.broken() {"},
	}, []string{"proxy"}},
	{"a proxy that allows every name", []edit{
		{"proxy/forward.go", "if d.Verdict != policy.Allow {", "if d.Verdict != policy.Allow && g.host == \"\" {"},
		{"proxy/quick.go", "if d.Verdict == policy.Allow {", "if d.Verdict == policy.Allow || host != \"\" {"},
	}, []string{"proxy-name", "proxy-mixed-case"}},
	{"DNS that resolves", []edit{
		{"dnsblock/quick.go", "if len(message) < headerSize ||", "if message != nil ||"},
		{"dnsblock/message.go", "	o.refuse(sentence(q.Question[0].Qclass, q.Question[0].Qtype))\n", `	if rr, err := dns.NewRR(q.Question[0].Name + " 1 IN A 198.18.51.10"); err == nil {
		o.answer.Answer = append(o.answer.Answer, rr)
	}
`},
	}, []string{"dns"}},
	{"a stale registration", []edit{
		{"sandbox/sandbox.go", `		h.end(s, "the launcher ended it")`, `		h.Log.Info("kept")`},
	}, []string{"ended-registration"}},
	{"every path of the model server", []edit{
		{"policy/endpoint.go", "	return Endpoint{}, false\n}\n\n// cleanPath", "	return Endpoint{method, u.Path}, true\n}\n\n// cleanPath"},
	}, []string{"model endpoint"}},
	{"capabilities that are not dropped", []edit{
		{agentFile, `CapDrop:        []string{"ALL"},`, ``},
	}, []string{"container"}},
	{"privileges that can be gained", []edit{
		{agentFile, `SecurityOpt:    []string{"no-new-privileges:true"},`, `SecurityOpt: []string{"no-new-privileges:false"},`},
	}, []string{"container"}},
	{"no seccomp profile", []edit{
		{agentFile, `SecurityOpt:    []string{"no-new-privileges:true"},`, `SecurityOpt: []string{"no-new-privileges:true", "seccomp=unconfined"},`},
	}, []string{"container"}},
	{"the machine's shared memory", []edit{
		{agentFile, `IpcMode:        "private",`, `IpcMode: "host",`},
	}, []string{"host"}},
	{"git's own files left open", []edit{
		{"containers/git.go", "		return g, g.addRepository(dotGit)\n", "		return g, nil\n"},
	}, []string{"git-*"}},
	{"the engine's socket in the sandbox", []edit{
		{"cmd/launcher/agent.go", "	binds := append(mounts, containers.Bind{Source: home, Target: homeInside},", "	binds := append(mounts, containers.Bind{Source: s.engine.Socket(), Target: \"/var/run/docker.sock\"}, containers.Bind{Source: home, Target: homeInside},"},
	}, []string{"start-proof", "host"}},
}
