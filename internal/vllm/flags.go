package vllm

import (
	_ "embed"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

//go:embed flags.txt
var flagFile string

// kind is how an option takes values; flags.txt tells them.
type kind string

const (
	boolKind  kind = "bool"
	flagKind  kind = "flag"
	valueKind kind = "value"
	intKind   kind = "int"
	floatKind kind = "float"
	listKind  kind = "list"
	jsonKind  kind = "json"
	maybeKind kind = "maybe"
)

// flag is one option of `vllm serve`.
type flag struct {
	name    string
	kind    kind
	short   []string
	choices []string
}

// shown is the option as argparse names it in errors.
func (f flag) shown() string {
	names := append([]string{f.name}, f.short...)
	if f.kind == boolKind {
		names = append([]string{f.name, "--no-" + f.name[2:]}, f.short...)
	}
	return strings.Join(names, "/")
}

// known is what flags.txt holds.
type known struct {
	flags                         map[string]flag // by every spelling
	toolParsers, reasoningParsers []string
}

// readFlags reads flags.txt.
func readFlags() (known, error) {
	k := known{flags: map[string]flag{}}
	section := ""
	for n, line := range strings.Split(flagFile, "\n") {
		fields := strings.Fields(line)
		switch {
		case len(fields) == 0 || strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "["):
			section = strings.Trim(line, "[]")
		case section == "tool-parsers":
			k.toolParsers = append(k.toolParsers, fields...)
		case section == "reasoning-parsers":
			k.reasoningParsers = append(k.reasoningParsers, fields...)
		case len(fields) < 2 || !strings.HasPrefix(fields[0], "--"):
			return known{}, fmt.Errorf("vllm: flags.txt line %d: %q", n+1, line)
		default:
			f := flag{name: fields[0], kind: kind(fields[1])}
			for i, word := range fields[2:] {
				if word == "=" {
					f.choices = fields[2+i+1:]
					break
				}
				f.short = append(f.short, word)
			}
			for _, spelling := range append([]string{f.name}, f.short...) {
				k.flags[spelling] = f
			}
		}
	}
	return k, nil
}

// options is a parsed command line.
type options struct {
	model string
	set   map[string][]string // by the option's name; a bool has "true" or "false"
	order []string            // the names as they came
}

func (o options) value(name, otherwise string) string {
	if v := o.set[name]; len(v) > 0 {
		return v[0]
	}
	return otherwise
}

func (o options) number(name string, otherwise int) int {
	n, err := strconv.Atoi(o.value(name, ""))
	if err != nil {
		return otherwise
	}
	return n
}

func (o options) on(name string) bool { return o.value(name, "false") == "true" }

// usageError is what argparse says before it exits with 2.
type usageError struct{ prog, message string }

func (e *usageError) Error() string {
	usage := "usage: vllm [-h] [-v] {chat,complete,serve,launch,bench,collect-env,run-batch} ..."
	if e.prog == "vllm serve" {
		usage = "usage: vllm serve [model_tag] [options]"
	}
	return usage + "\n" + e.prog + ": error: " + e.message
}

// parse takes `vllm serve`'s arguments apart as its argparse does. What is not in
// flags.txt is refused, abbreviations too.
func (k known) parse(args []string) (options, error) {
	o := options{set: map[string][]string{}}
	var extras []string
	for i := 0; i < len(args); {
		arg := args[i]
		if !isFlag(arg) {
			if o.model == "" {
				o.model = arg
			} else {
				extras = append(extras, arg)
			}
			i++
			continue
		}
		name, attached, hasAttached := strings.Cut(arg, "=")
		f, off, ok := k.find(name)
		if !ok {
			extras = append(extras, arg)
			i++
			continue
		}
		i++
		values := []string{}
		if hasAttached {
			values = append(values, attached)
		} else {
			for i < len(args) && !isFlag(args[i]) && f.wants(len(values)) {
				values = append(values, args[i])
				i++
			}
		}
		if err := f.check(values, hasAttached); err != nil {
			return o, err
		}
		o.add(f, off, values)
	}
	if len(extras) > 0 {
		return o, &usageError{"vllm", "unrecognized arguments: " + strings.Join(extras, " ")}
	}
	return o, nil
}

func (o *options) add(f flag, off bool, values []string) {
	if f.kind == boolKind || f.kind == flagKind {
		values = []string{strconv.FormatBool(!off)}
	}
	o.set[f.name] = values
	o.order = append(o.order, f.name)
}

// isFlag says whether argparse takes s for an option.
func isFlag(s string) bool {
	if len(s) < 2 || s[0] != '-' {
		return false
	}
	_, err := strconv.ParseFloat(s, 64)
	return err != nil
}

// find returns the option of a spelling; off: it is the --no- form.
func (k known) find(name string) (f flag, off, ok bool) {
	if long, is := strings.CutPrefix(name, "--"); is {
		name = "--" + strings.ReplaceAll(long, "_", "-") // FlexibleArgumentParser
	}
	if f, ok = k.flags[name]; ok {
		return f, false, true
	}
	if rest, is := strings.CutPrefix(name, "--no-"); is {
		f, ok = k.flags["--"+rest]
		return f, true, ok && f.kind == boolKind
	}
	if root, _, is := strings.Cut(name, "."); is {
		f, ok = k.flags[root]
		return f, false, ok && f.kind == jsonKind
	}
	return flag{}, false, false
}

// wants says whether the option takes one more value after n.
func (f flag) wants(n int) bool {
	switch f.kind {
	case boolKind, flagKind:
		return false
	case listKind:
		return true
	}
	return n == 0
}

func (f flag) check(values []string, attached bool) error {
	bad := func(format string, a ...any) error {
		return &usageError{"vllm serve", "argument " + f.shown() + ": " + fmt.Sprintf(format, a...)}
	}
	switch {
	case (f.kind == boolKind || f.kind == flagKind) && attached:
		return bad("ignored explicit argument '%s'", values[0])
	case f.kind == boolKind || f.kind == flagKind || f.kind == maybeKind:
		return nil
	case len(values) == 0 && f.kind == listKind:
		return bad("expected at least one argument")
	case len(values) == 0:
		return bad("expected one argument")
	}
	if f.kind == intKind {
		if _, err := strconv.Atoi(values[0]); err != nil {
			return bad("invalid int value: '%s'", values[0])
		}
	}
	if f.kind == floatKind {
		if _, err := strconv.ParseFloat(values[0], 64); err != nil {
			return bad("invalid float value: '%s'", values[0])
		}
	}
	if len(f.choices) > 0 && !slices.Contains(f.choices, values[0]) {
		return bad("invalid choice: '%s' (choose from '%s')", values[0], strings.Join(f.choices, "', '"))
	}
	return nil
}
