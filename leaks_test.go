package sallyport_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"strings"
	"testing"
)

// unwatched are folders whose goroutines no test of their own watches, and why.
var unwatched = map[string]string{
	"internal/lab":           "its tests take the lab; a host that stays fails them",
	"internal/lab/labrun":    "a program for tests",
	"internal/hub":           "a stand-in, watched by the tests that use it",
	"internal/vllm/cmd/vllm": "a program for tests",
	"e2e/testdata":           "programs for tests",
	"containers/testdata":    "programs for tests",
}

// Whoever starts goroutines waits for them: each package that does has tests
// which fail where one is left.
func TestGoroutinesAreWatched(t *testing.T) {
	starts, watched, tests := map[string]string{}, map[string]bool{}, map[string]bool{}
	eachFile(t, func(name string, file *ast.File) {
		folder := path.Dir(name)
		if !strings.HasSuffix(name, "_test.go") {
			if what := startsGoroutine(file); what != "" {
				starts[folder] = what
			}
			return
		}
		tests[folder] = true
		for _, i := range file.Imports {
			if strings.Contains(i.Path.Value, "go.uber.org/goleak") {
				watched[folder] = true
			}
		}
	})
	for folder, what := range starts {
		watcher := folder
		for !tests[watcher] && watcher != "." { // what has no tests is used by those above
			watcher = path.Dir(watcher)
		}
		if !watched[watcher] && !skip(folder) {
			t.Errorf("%s starts goroutines (%s), and the tests of %s do not look for leaks; hint: func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }", folder, what, watcher)
		}
	}
}

func skip(folder string) bool {
	for prefix := range unwatched {
		if folder == prefix || strings.HasPrefix(folder, prefix+"/") {
			return true
		}
	}
	return false
}

// startsGoroutine names the first thing of file that starts one: a go statement,
// or the Go method of a WaitGroup or an errgroup.
func startsGoroutine(file *ast.File) (what string) {
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			what = "go"
		case *ast.CallExpr:
			if s, ok := n.Fun.(*ast.SelectorExpr); ok && s.Sel.Name == "Go" {
				what = "Go"
			}
		}
		return what == ""
	})
	return what
}

// eachFile parses every Go file of the module.
func eachFile(t *testing.T, each func(name string, file *ast.File)) {
	t.Helper()
	err := fs.WalkDir(os.DirFS("."), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(name, ".go") {
			return err
		}
		text, err := fs.ReadFile(os.DirFS("."), name)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, text, parser.SkipObjectResolution)
		if err == nil {
			each(name, file)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
