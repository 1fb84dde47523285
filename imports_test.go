package sallyport_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
)

const module = "github.com/sallyport/sallyport"

// anything stands in a row for packages that wire others together.
const anything = "anything"

// row is what a package may import of this module, and which libraries no other
// package imports. The order is that of ARCHITECTURE.md.
type row struct {
	folder string
	may    []string
	alone  []string
}

var table = []row{
	{folder: "policy", alone: []string{"golang.org/x/net/idna", "golang.org/x/net/publicsuffix"}},
	{folder: "audit", may: []string{"policy"}, alone: []string{"modernc.org/sqlite"}},
	{folder: "audit/view", may: []string{"policy", "audit"}},
	{folder: "audit/watch", may: []string{"audit", "audit/view"}, alone: []string{"charm.land/bubbletea"}},
	{folder: "origin", may: []string{"audit"}},
	{folder: "wall", may: []string{"wall/wire"}, alone: []string{"github.com/google/nftables", "github.com/florianl/go-nflog",
		"github.com/vishvananda/netlink", "github.com/vishvananda/netns", "github.com/mdlayher/netlink"}},
	{folder: "wall/wire"},
	{folder: "sandbox", may: []string{"policy", "audit", "wall/wire"}},
	{folder: "dial", may: []string{"policy"}},
	{folder: "tunnel", alone: []string{"golang.org/x/crypto/ssh", "github.com/skeema/knownhosts", "github.com/kevinburke/ssh_config"}},
	{folder: "proxy", may: []string{"policy", "audit"}, alone: []string{"github.com/elazarl/goproxy"}},
	{folder: "dnsblock", may: []string{"policy", "audit"}, alone: []string{"github.com/miekg/dns"}},
	{folder: "containers", alone: []string{"github.com/moby/moby"}},
	{folder: "terminal", alone: []string{"golang.org/x/term"}},
	{folder: "machine", may: []string{"tunnel"}},
	{folder: "models"},
	{folder: "models/demo"},
	{folder: "models/runner"},
	{folder: "models/server", may: []string{"models", "machine", "containers"}},
	{folder: "models/hub", may: []string{"machine"}},
	{folder: "models/pull", may: []string{"models", "models/hub", "machine", "containers"}},
	{folder: "agents", may: []string{"policy"}},
	{folder: "verify", may: []string{"policy", "audit"}},
	{folder: "verify/probe", may: []string{"audit", "verify"}},
	{folder: "verify/addresses", may: []string{"audit", "verify", "verify/probe"}},
	{folder: "verify/host", may: []string{"audit", "verify", "verify/probe"}},
	{folder: "verify/forward/open", may: []string{"verify/probe"}},
	{folder: "verify/names", may: []string{"audit", "verify", "verify/probe", "verify/forward/open"}},
	{folder: "verify/forward", may: []string{"audit", "verify", "verify/probe", "verify/forward/open"}},
	{folder: "verify/endpoint", may: []string{"audit", "models/demo", "verify", "verify/probe"}},
	{folder: "verify/inside", may: []string{"audit", "verify", "verify/probe"}},
	{folder: "verify/battery", may: []string{"audit", "verify", "verify/probe", "verify/addresses", "verify/host", "verify/names", "verify/forward", "verify/endpoint", "verify/inside"}},
	{folder: "confine"},
	{folder: "control", may: []string{"policy", "audit", "sandbox", "tunnel"}},
	{folder: "metrics", may: []string{"policy", "audit", "sandbox", "control"}, alone: []string{"github.com/prometheus/client_golang"}},
	{folder: "web", may: []string{"audit", "audit/view", "control", "sandbox"}},
	{folder: "config", may: []string{"policy"}, alone: []string{"github.com/spf13/viper", "github.com/go-viper/mapstructure", "go.yaml.in/yaml"}},
	{folder: "internal/hub", may: []string{anything}},
	{folder: "internal/vllm", may: []string{"models/demo"}},
	{folder: "internal/vllm/cmd/vllm", may: []string{"internal/vllm"}},
	{folder: "internal/lab", may: []string{anything}},
	{folder: "internal/lab/labrun", may: []string{anything}},
	{folder: "bench", may: []string{"bench/field"}},
	{folder: "bench/cases", may: []string{anything}},
	{folder: "bench/cases/forward", may: []string{anything}},
	{folder: "bench/cases/names", may: []string{anything}},
	{folder: "bench/cases/record", may: []string{anything}},
	{folder: "bench/cases/roundtrip", may: []string{anything}},
	{folder: "bench/cases/ssh", may: []string{anything}},
	{folder: "bench/cases/stream", may: []string{anything}},
	{folder: "bench/cases/whole", may: []string{anything}},
	{folder: "bench/cmd/bench", may: []string{anything}},
	{folder: "bench/cmd/load", may: []string{"bench/load"}},
	{folder: "bench/cmd/peer", may: []string{"bench/peer"}},
	{folder: "bench/field", may: []string{anything}},
	{folder: "bench/load"},
	{folder: "bench/peer", may: []string{anything}},
	{folder: "bench/proc"},
	{folder: "cmd/gateway", may: []string{anything}, alone: []string{"github.com/spf13/cobra"}},
	{folder: "cmd/launcher", may: []string{anything}, alone: []string{"github.com/spf13/cobra"}},
}

// ban is an import that no package may have, but those excepted: a package of
// the standard library by itself, a module with all it holds.
type ban struct {
	path, why string
	except    []string
}

var bans = []ban{
	{"log", "loggers are handed in as *slog.Logger", []string{"internal/lab"}},
	{"log/syslog", "loggers are handed in as *slog.Logger", nil},
	{"os/exec", "everything is done from Go, without other programs", []string{
		"tunnel",        // ssh -G, for Match blocks
		"cmd/launcher",  // starts the gateway in the background
		"cmd/gateway",   // looks a sandbox's command up in PATH
		"machine",       // runs sh on this machine
		"models/runner", // starts the model server
		"internal/lab",
		"internal/lab/labrun",
		"bench/field", // builds the programs
		"bench/load",  // starts itself again, for a flood from many processes
		"bench/peer",  // builds CoreDNS from its module
	}},
	{"C", "the binaries are static", nil},
	{"testing", "fakes live in tests and under internal/", []string{"internal/lab"}},
	{"github.com/docker/docker", "the Docker client lives at github.com/moby/moby now", nil},
	{"github.com/docker/cli", "the engine is spoken to directly", nil},
	{"gopkg.in/yaml.v3", "it is unmaintained; use go.yaml.in/yaml/v3", nil},
}

// source is what is looked at of one folder.
type source struct {
	name    string              // of its package
	doc     string              // of its package
	imports map[string][]string // files by the path that they import
}

func TestImports(t *testing.T) {
	found, err := scan(os.DirFS("."))
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range check(found) {
		t.Error(problem)
	}
}

// scan reads every Go file that is no test, whatever its build constraints. The
// folders that the go command leaves out are left out.
func scan(root fs.FS) (map[string]*source, error) {
	found := map[string]*source{}
	err := fs.WalkDir(root, ".", func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := path.Base(file)
		hidden := strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_")
		if d.IsDir() {
			if file != "." && (hidden || base == "testdata" || base == "vendor") {
				return fs.SkipDir
			}
			return nil
		}
		if hidden || !strings.HasSuffix(base, ".go") || strings.HasSuffix(base, "_test.go") {
			return nil
		}
		text, err := fs.ReadFile(root, file)
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, text, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		return note(found, file, f)
	})
	return found, err
}

// note adds one file to what was found in its folder.
func note(found map[string]*source, file string, f *ast.File) error {
	s := found[path.Dir(file)]
	if s == nil {
		s = &source{name: f.Name.Name, imports: map[string][]string{}}
		found[path.Dir(file)] = s
	}
	if f.Doc != nil {
		s.doc += f.Doc.Text()
	}
	for _, spec := range f.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		s.imports[imported] = append(s.imports[imported], file)
	}
	return nil
}

// check holds what was found against the table and returns every breach.
func check(found map[string]*source) []string {
	var problems []string
	for folder, s := range found {
		if !slices.ContainsFunc(table, func(r row) bool { return r.folder == folder }) {
			problems = append(problems, fmt.Sprintf("%s: a package that is not in the table; add its row to imports_test.go and ARCHITECTURE.md", folder))
		}
		want := "Package " + s.name + " "
		if s.name == "main" {
			want = "Command " + path.Base(folder) + " "
		}
		if !strings.HasPrefix(s.doc, want) {
			problems = append(problems, fmt.Sprintf("%s: the package needs one doc comment, starting with %q: what it is and where it stops", folder, want))
		}
	}
	for _, r := range table {
		s := found[r.folder]
		if s == nil {
			problems = append(problems, fmt.Sprintf("%s: in the table, but there is no such package; write it or remove the row", r.folder))
			continue
		}
		for imported, files := range s.imports {
			for _, why := range breaches(r, imported) {
				problems = append(problems, fmt.Sprintf("%s imports %s: %s", files[0], imported, why))
			}
		}
	}
	slices.Sort(problems)
	return problems
}

// breaches says why the package of r may not import a path.
func breaches(r row, imported string) []string {
	var why []string
	if local, ok := strings.CutPrefix(imported, module+"/"); ok {
		switch {
		case strings.HasPrefix(local, "internal/") && !ofTests(r.folder) || strings.HasPrefix(local, "cmd/"):
			why = append(why, "nothing imports a command or the lab")
		case within(local, "bench") && !within(r.folder, "bench"):
			why = append(why, "the product does not know that it is measured")
		case !slices.Contains(r.may, anything) && !slices.Contains(r.may, local):
			why = append(why, fmt.Sprintf("of this module %s may import only %v; let a command connect the two by passing a function", r.folder, r.may))
		}
	}
	for _, b := range bans {
		banned := imported == b.path || strings.Contains(b.path, ".") && within(imported, b.path)
		if banned && !slices.Contains(b.except, r.folder) {
			why = append(why, b.why)
		}
	}
	if r.folder == "internal/lab" || within(r.folder, "bench") {
		return why // they play internet, GPU host, laptop and peers, so they need their libraries
	}
	var owners []string
	for _, other := range table {
		if slices.ContainsFunc(other.alone, func(lib string) bool { return within(imported, lib) }) {
			owners = append(owners, other.folder)
		}
	}
	if len(owners) > 0 && !slices.Contains(owners, r.folder) {
		why = append(why, fmt.Sprintf("only %s may", strings.Join(owners, " and ")))
	}
	return why
}

// ofTests reports whether a package is no part of the product.
func ofTests(folder string) bool { return within(folder, "internal") || within(folder, "bench") }

// within reports whether an import path is lib or lies below it.
func within(imported, lib string) bool {
	return imported == lib || strings.HasPrefix(imported, lib+"/")
}

// Each rule finds its breach, in a tree that is otherwise complete.
func TestImportRulesFire(t *testing.T) {
	for _, c := range []struct{ file, text, want string }{
		{"", "", ""},
		{"policy/x.go", `import "` + module + `/audit"`, "policy/x.go imports " + module + "/audit: of this module policy may import only []; let a command connect the two by passing a function"},
		{"proxy/x.go", `import "` + module + `/dial"`, "proxy/x.go imports " + module + "/dial: of this module proxy may import only [policy audit]; let a command connect the two by passing a function"},
		{"proxy/x.go", `import "` + module + `/policy"`, ""},
		{"wall/x.go", `import "` + module + `/wall/wire"`, ""},
		{"cmd/gateway/x.go", `import "` + module + `/cmd/launcher"`, "cmd/gateway/x.go imports " + module + "/cmd/launcher: nothing imports a command or the lab"},
		{"cmd/gateway/x.go", `import "` + module + `/internal/lab"`, "cmd/gateway/x.go imports " + module + "/internal/lab: nothing imports a command or the lab"},
		{"cmd/gateway/x.go", `import "` + module + `/bench/load"`, "cmd/gateway/x.go imports " + module + "/bench/load: the product does not know that it is measured"},
		{"internal/lab/x.go", `import "` + module + `/bench"`, "internal/lab/x.go imports " + module + "/bench: the product does not know that it is measured"},
		{"bench/load/x.go", `import "` + module + `/proxy"`, "bench/load/x.go imports " + module + "/proxy: of this module bench/load may import only []; let a command connect the two by passing a function"},
		{"bench/peer/x.go", `import "github.com/elazarl/goproxy"`, ""},
		{"bench/peer/x.go", `import "` + module + `/proxy"`, ""},
		{"cmd/gateway/x.go", `import "` + module + `/proxy"`, ""},
		{"agents/x.go", `import "github.com/miekg/dns"`, "agents/x.go imports github.com/miekg/dns: only dnsblock may"},
		{"agents/x.go", `import "github.com/moby/moby/client"`, "agents/x.go imports github.com/moby/moby/client: only containers may"},
		{"agents/x.go", `import "github.com/florianl/go-nflog/v2"`, "agents/x.go imports github.com/florianl/go-nflog/v2: only wall may"},
		{"agents/x.go", `import "golang.org/x/crypto/ssh/agent"`, "agents/x.go imports golang.org/x/crypto/ssh/agent: only tunnel may"},
		{"agents/x.go", `import "golang.org/x/terminology"`, ""},
		{"agents/x.go", `import "github.com/spf13/cobra"`, "agents/x.go imports github.com/spf13/cobra: only cmd/gateway and cmd/launcher may"},
		{"internal/lab/x.go", `import "github.com/miekg/dns"`, ""},
		{"agents/x.go", `import "log"`, "agents/x.go imports log: loggers are handed in as *slog.Logger"},
		{"agents/x.go", `import "log/syslog"`, "agents/x.go imports log/syslog: loggers are handed in as *slog.Logger"},
		{"agents/x.go", `import "log/slog"`, ""},
		{"agents/x.go", `import "os/exec"`, "agents/x.go imports os/exec: everything is done from Go, without other programs"},
		{"control/x.go", `import "os/exec"`, "control/x.go imports os/exec: everything is done from Go, without other programs"},
		{"tunnel/x.go", `import "os/exec"`, ""},
		{"agents/x.go", `import "C"`, "agents/x.go imports C: the binaries are static"},
		{"agents/x_windows.go", `import "log"`, "agents/x_windows.go imports log: loggers are handed in as *slog.Logger"},
		{"agents/x_test.go", `import "log"`, ""},
		{"agents/testdata/x.go", `import "log"`, ""},
		{"util/doc.go", "", "util: a package that is not in the table; add its row to imports_test.go and ARCHITECTURE.md"},
		{"x.go", "", ".: a package that is not in the table; add its row to imports_test.go and ARCHITECTURE.md"},
		{"agents/doc.go", "undocumented", `agents: the package needs one doc comment, starting with "Package agents ": what it is and where it stops`},
		{"agents/doc.go", "absent", "agents: in the table, but there is no such package; write it or remove the row"},
	} {
		found, err := scan(treeWith(c.file, c.text))
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(check(found), "\n"); got != c.want {
			t.Errorf("%s with %s:\n got %s\nwant %s", c.file, c.text, got, c.want)
		}
	}
}

// treeWith is a tree in which every package of the table is in order, and then
// one file is added with text below its package clause, or changed. No text:
// documented, and no more.
func treeWith(file, text string) fs.FS {
	documented := func(name string) *fstest.MapFile {
		return &fstest.MapFile{Data: []byte("// Package " + name + " is one.\npackage " + name + "\n")}
	}
	tree := fstest.MapFS{}
	for _, r := range table {
		tree[r.folder+"/doc.go"] = documented(path.Base(r.folder))
	}
	name := path.Base(path.Dir(file))
	if name == "." {
		name = "sallyport"
	}
	switch {
	case text == "absent":
		delete(tree, file)
	case text == "undocumented":
		tree[file].Data = []byte("package " + name + "\n")
	case text == "" && file != "":
		tree[file] = documented(name)
	case file != "":
		tree[file] = &fstest.MapFile{Data: []byte("package " + name + "\n" + text + "\n")}
	}
	return tree
}
