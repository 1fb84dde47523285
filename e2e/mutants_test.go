//go:build lab

package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/lab"
	"github.com/sallyport/sallyport/verify/battery"
)

// mutant is the product with something broken on purpose: by the compiler's
// overlay, so that nothing of it is in the product.
type mutant struct {
	name  string
	edits []edit
	// only are the probes that are run, globs as --only takes them; they must find it.
	// The whole battery: -mutants.all.
	only []string
}

// edit replaces a text that the file has once.
type edit struct{ file, old, new string }

// TestMutants builds each mutant and has the battery find it. The table of mutants
// and what finds them is docs/mutants.md; -mutants.write writes it.
func TestMutants(t *testing.T) {
	l := shared.Get(t, lab.Engine28)
	var table []string
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) {
			bin := m.build(t, l)
			u := setUpVerify(t, l)
			args := []string{"--rebinding", strings.Join(lab.Rebinds(), ",")}
			if !*allProbes {
				args = append(args, "--only", strings.Join(m.only, ","))
			}
			report, said := u.verify(filepath.Join(bin, "gateway"), args...)
			found := finders(report)
			switch {
			case len(report.Runs) == 0:
				t.Errorf("the battery was not run: %s", said)
			case report.OK() || len(found) == 0:
				t.Errorf("nothing found it:\n%s", said)
			}
			t.Logf("%s: found by %s", m.name, strings.Join(found, ", "))
			table = append(table, fmt.Sprintf("| %s | %s |", m.name, strings.Join(found, ", ")))
		})
	}
	if *writeTable == "" {
		return
	}
	head := "# Builds that are broken on purpose, and the probes that find them\n\n" +
		"Made by `go test -tags lab -run TestMutants ./e2e -args -mutants.write docs/mutants.md`. What is broken is in\n" +
		"`e2e/mutantlist_test.go`, with the probes that are run on each build; `-mutants.all` runs all of them.\n" +
		"`start-proof` is what keeps an agent from starting: after it the agent's probes are not run.\n\n| broken | found by |\n|---|---|\n"
	if err := os.WriteFile(filepath.Join("..", *writeTable), []byte(head+strings.Join(table, "\n")+"\n"), 0o644); err != nil {
		t.Error(err)
	}
}

// finders are the probes that a report says failed, and what was touched.
func finders(r battery.Report) []string {
	var found []string
	for _, run := range r.Runs {
		for _, result := range run.Results {
			if result.Verdict == battery.Failed {
				found = append(found, "`"+result.Name+"` ("+run.User+")")
			}
		}
	}
	if len(r.Touched) > 0 {
		found = append(found, "verify's own listeners")
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// TestMutantsFit tells in a moment, before a lab is built, which mutant the source
// has grown out of.
func TestMutantsFit(t *testing.T) {
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) { m.overlay(t) })
	}
}

// build builds gateway and launcher with the edits into a folder of the user's.
func (m mutant) build(t *testing.T, l *lab.Lab) string {
	t.Helper()
	overlay := m.overlay(t)
	bin, err := os.MkdirTemp(l.Laptop.Home, "mutant-")
	if err == nil {
		err = os.Chmod(bin, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		os.RemoveAll(bin)
		images, err := l.Laptop.Docker(context.WithoutCancel(t.Context()), "images", "-q", "--filter", "reference=sallyport/helper")
		if err == nil && images != "" {
			_, err = l.Laptop.Docker(context.WithoutCancel(t.Context()), append([]string{"rmi", "-f"}, strings.Fields(images)...)...)
		}
		if err != nil {
			t.Error(err)
		}
	})
	build := exec.Command("go", "build", "-trimpath", "-overlay", overlay, "-o", bin+"/", "../cmd/gateway", "../cmd/launcher")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return bin
}

// overlay writes the edited files and the list of them that the compiler reads, and
// returns the list's path.
func (m mutant) overlay(t *testing.T) string {
	t.Helper()
	work := t.TempDir()
	replace := map[string]string{}
	for i, e := range m.edits {
		path, err := filepath.Abs(filepath.Join("..", e.file))
		if err != nil {
			t.Fatal(err)
		}
		source := path
		if before, ok := replace[path]; ok {
			source = before
		}
		text, err := os.ReadFile(source)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(text), e.old); n != 1 {
			t.Fatalf("%s has %q %d times", e.file, e.old, n)
		}
		replace[path] = filepath.Join(work, fmt.Sprintf("%d-%s", i, filepath.Base(path)))
		if err := os.WriteFile(replace[path], []byte(strings.Replace(string(text), e.old, e.new, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(work, "overlay.json")
	if err := os.WriteFile(list, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return list
}
