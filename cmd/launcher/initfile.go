package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/config"
	"github.com/sallyport/sallyport/terminal"
)

// text is the configuration that the answers make.
func (a answers) text() string {
	var b strings.Builder
	b.WriteString("# By launcher init. Every other key: config.example.yaml\n")
	weights := ""
	if a.weights != "" {
		weights = "weights: " + scalar(a.weights)
	}
	switch {
	case a.host != "" && weights != "":
		fmt.Fprintf(&b, "hosts:\n  - {name: %s, ssh: %s, %s}\n", scalar(a.host), scalar(a.ssh), weights)
	case a.host != "":
		fmt.Fprintf(&b, "hosts:\n  - {name: %s, ssh: %s}\n", scalar(a.host), scalar(a.ssh))
	case weights != "":
		fmt.Fprintf(&b, "local: {%s}\n", weights)
	}
	entry := "name: " + scalar(a.model)
	if a.host != "" {
		entry += ", host: " + scalar(a.host)
	}
	if a.engine != "" {
		entry += ", engine: " + scalar(string(a.engine))
	}
	fmt.Fprintf(&b, "models:\n  - {%s}\n", entry)
	return b.String()
}

// plainScalar is what YAML reads as a string without quotes, wherever it stands:
// no number, no word like "no" or "null", no mark.
var (
	plainScalar = regexp.MustCompile(`^(~/|/)?[A-Za-z0-9][A-Za-z0-9_./@-]*$`)
	word        = regexp.MustCompile(`^(?i:y|n|yes|no|on|off|true|false|null|[0-9.]+|0x[0-9a-f]+|[0-9.]+e[0-9]+|0o[0-7]+|[0-9-]+)$`)
)

// scalar writes a string as YAML 1.2 reads it: JSON's strings are YAML's.
func scalar(s string) string {
	if plainScalar.MatchString(s) && !word.MatchString(s) {
		return s
	}
	quoted, err := json.Marshal(s)
	if err != nil { // no string does that
		return `""`
	}
	return string(quoted)
}

// finish shows the file, asks, writes it, and says what to do next.
func (v *interview) finish(ctx context.Context) error {
	text := v.said.text()
	if err := v.accepted(text); err != nil {
		return err
	}
	if v.options.dryRun {
		_, err := fmt.Fprint(v.options.stdout, text)
		return err
	}
	if v.exists && !v.flags.force {
		fmt.Fprint(v.options.stdout, text)
		return fmt.Errorf("%s is there and was not changed; hint: add the lines above to it, or --force replaces it and keeps it as %s", v.path, filepath.Base(v.path)+".bak")
	}
	if !v.flags.yes && v.ask != nil {
		v.say("\n%s\n", strings.TrimSuffix(text, "\n"))
		yes, err := v.ask.confirm(ctx, "Write this to "+audit.Printable(v.path)+"?", true)
		if err != nil {
			return err
		}
		if !yes {
			return errors.New("nothing was written")
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	kept, err := writeConfig(v.path, []byte(text), v.flags.force, v.load)
	if err != nil {
		return err
	}
	v.next(kept)
	return nil
}

// next says what was written and what to do now.
func (v *interview) next(kept string) {
	w := v.options.stdout
	fmt.Fprintf(w, "wrote %s\n", audit.Printable(v.path))
	if kept != "" {
		fmt.Fprintf(w, "kept  %s\n", audit.Printable(kept))
	}
	fmt.Fprintln(w, "next:")
	if !v.complete {
		size := ""
		if gb := v.said.profile.Weights().GB; gb > 0 {
			size = fmt.Sprintf("   downloads about %d GB, recorded", gb)
		}
		fmt.Fprintf(w, "  launcher pull %s%s\n", v.said.model, size)
	}
	fmt.Fprintf(w, "  launcher claude %s\n  launcher doctor   checks the whole chain\n", v.said.model)
}

// load reads a configuration as every command will.
func (v *interview) load(path string) error {
	cfg, err := config.Load(config.Options{Path: path, Environ: v.options.lookupenv, Home: v.caller.ownHome})
	if err != nil {
		return err
	}
	_, err = findModel(cfg, v.said.model)
	return err
}

// accepted checks the file in a place of its own, before anything is written
// where it belongs.
func (v *interview) accepted(text string) error {
	dir, err := os.MkdirTemp("", "sallyport-init-")
	if err != nil {
		return fmt.Errorf("check the new configuration: %w", err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "config.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return fmt.Errorf("check the new configuration: %w", err)
	}
	if err := v.load(path); err != nil {
		return fmt.Errorf("the answers make no configuration: %w", err)
	}
	return nil
}

// writeConfig puts data at path at once, mode 0600 in a folder that is made with
// 0700, once valid has accepted it. A file that is there is replaced only with
// force, and kept under the name that is returned.
func writeConfig(path string, data []byte, force bool, valid func(path string) error) (kept string, err error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("write the configuration: %w", err)
	}
	next, err := writeBeside(path, data)
	if err != nil {
		return "", fmt.Errorf("write the configuration: %w", err)
	}
	defer os.Remove(next) // it has another name by then, or is not wanted
	if err := valid(next); err != nil {
		return "", fmt.Errorf("write the configuration: %w", err)
	}
	if force {
		if kept, err = keep(path); err != nil {
			return "", fmt.Errorf("keep the configuration that is there: %w", err)
		}
		if err := os.Rename(next, path); err != nil {
			return kept, fmt.Errorf("write the configuration: %w", err)
		}
		return kept, nil
	}
	if err := os.Link(next, path); errors.Is(err, fs.ErrExist) { // a rename would replace one made meanwhile
		return "", fmt.Errorf("write the configuration: %s was made meanwhile; nothing was changed", path)
	} else if err != nil {
		return "", fmt.Errorf("write the configuration: %w", err)
	}
	return "", nil
}

// writeBeside writes a file of another name into the folder of path.
func writeBeside(path string, data []byte) (name string, err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return "", err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}

// keep copies a file to one with .bak behind its name; "" if there is none.
func keep(path string) (string, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	next, err := writeBeside(path, data)
	if err != nil {
		return "", err
	}
	if err := os.Rename(next, path+".bak"); err != nil {
		return "", errors.Join(err, os.Remove(next))
	}
	return path + ".bak", nil
}

// terminalColour reports whether the questions are to have colours.
func terminalColour(o *options) bool {
	f, ok := o.stderr.(*os.File)
	return ok && terminal.Colours(o.environ, f)
}
