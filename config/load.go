package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/go-viper/mapstructure/v2"
	"github.com/spf13/pflag"
	"github.com/spf13/viper"
)

// maxFile bounds a configuration file, in bytes.
const maxFile = 1 << 20

// delimiter stands between the parts of a viper key. Its default, a dot, is in
// many a host's name.
const delimiter = "::"

// Options say where a configuration comes from.
type Options struct {
	// Path of the file. It must exist. Empty: DefaultPath, which need not.
	Path string
	// Environ looks up an environment variable, as os.LookupEnv does. Nil: none is set.
	Environ func(name string) (string, bool)
	// Home is the user's home directory, which "~/" stands for. Empty: unknown.
	Home string
	// Open opens the file. Nil: os.Open.
	Open func(name string) (io.ReadCloser, error)
	// Flags that were changed and are called FlagName of a key override it. Nil: none.
	Flags *pflag.FlagSet
}

// EnvName returns the environment variable that overrides a key outside lists:
// SALLYPORT_NETWORK_POOL for "network.pool".
func EnvName(key string) string {
	return "SALLYPORT_" + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

// FlagName returns the flag that overrides a key outside lists: network-pool for
// "network.pool".
func FlagName(key string) string {
	return strings.NewReplacer(".", "-", "_", "-").Replace(key)
}

// DefaultPath returns where the user's configuration lies:
// $XDG_CONFIG_HOME/sallyport/config.yaml, else below home/.config. It is empty if
// neither is known.
func DefaultPath(environ func(name string) (string, bool), home string) string {
	if environ != nil {
		if dir, ok := environ("XDG_CONFIG_HOME"); ok && filepath.IsAbs(dir) { // others are to be ignored, says the specification
			return filepath.Join(dir, "sallyport", "config.yaml")
		}
	}
	if filepath.IsAbs(home) {
		return filepath.Join(home, ".config", "sallyport", "config.yaml")
	}
	return ""
}

// Load reads and checks the configuration. An error about its content is an
// *Error that holds every problem.
func Load(o Options) (*Config, error) {
	path, data, err := read(o)
	if err != nil {
		return nil, err
	}
	return parse(path, data, o)
}

// parse makes a configuration of the file's content; nil if there is no file.
func parse(path string, data []byte, o Options) (*Config, error) {
	r := newReport(path)
	c := &Config{}
	if data != nil {
		c.Path = path
		r.inspect(data)
	}
	if r.decode(c, data, o) {
		r.check(c, o.Home)
	}
	if err := r.err(); err != nil {
		return nil, err
	}
	return c, nil
}

// read returns the file's path and content; nil content if there is none.
func read(o Options) (path string, data []byte, err error) {
	path = o.Path
	if path == "" {
		if path = DefaultPath(o.Environ, o.Home); path == "" {
			return "", nil, errors.New("find the configuration: neither HOME nor XDG_CONFIG_HOME is set; set one, or use --config")
		}
	}
	f, err := o.open(path)
	if errors.Is(err, fs.ErrNotExist) && o.Path == "" {
		return path, nil, nil
	}
	if err != nil {
		return "", nil, fmt.Errorf("read the configuration: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	data, err = io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return "", nil, fmt.Errorf("read the configuration: %w", err)
	}
	if len(data) > maxFile {
		return "", nil, fmt.Errorf("read the configuration: %s has more than %d bytes", path, maxFile)
	}
	return path, data, nil
}

func (o Options) open(path string) (io.ReadCloser, error) {
	if o.Open != nil {
		return o.Open(path)
	}
	return os.Open(path)
}

// decode lets viper put file, variables and flags together into c. It reports
// whether c is filled, apart from the values that were reported.
func (r *report) decode(c *Config, data []byte, o Options) bool {
	v := viper.NewWithOptions(viper.KeyDelimiter(delimiter), viper.WithDecodeHook(mapstructure.TextUnmarshallerHookFunc()))
	for key, value := range defaults() {
		v.SetDefault(viperKey(key), value)
	}
	v.SetConfigType("yaml")
	if err := v.ReadConfig(bytes.NewReader(data)); err != nil {
		if !r.bad("") {
			r.syntax(err)
		}
		return false
	}
	over := map[string]any{}
	for _, section := range r.empty { // else its null would hide the defaults
		over[section] = map[string]any{}
	}
	r.environment(over, o.Environ)
	if err := v.MergeConfigMap(over); err != nil {
		r.add("", "environment variables: "+err.Error(), "")
		return false
	}
	if err := r.flags(v, o.Flags); err != nil {
		r.add("", "flags: "+err.Error(), "")
		return false
	}
	err := v.UnmarshalExact(c, func(d *mapstructure.DecoderConfig) { d.WeaklyTypedInput = false })
	r.decoding(err)
	return true
}

func viperKey(key string) string { return strings.ReplaceAll(key, ".", delimiter) }

// environment adds the variables that are set, as maps of sections. An empty one
// counts as not set.
func (r *report) environment(over map[string]any, environ func(string) (string, bool)) {
	if environ == nil {
		return
	}
	for _, f := range leaves() {
		text, ok := environ(EnvName(f.name))
		if !ok || text == "" || f.typ.Kind() == reflect.Slice {
			continue
		}
		r.origin[f.name] = EnvName(f.name)
		var value any = text
		if !isText(f.typ) && f.typ.Kind() != reflect.String {
			n, err := parseWhole(text, f.typ)
			if err != nil {
				r.add(f.name, err.Error(), "")
				continue
			}
			value = n
		}
		section, name, _ := strings.Cut(f.name, ".")
		values, ok := over[section].(map[string]any)
		if !ok {
			values = map[string]any{}
			over[section] = values
		}
		values[name] = value
	}
}

// flags binds the flags that are named as a key is.
func (r *report) flags(v *viper.Viper, set *pflag.FlagSet) error {
	if set == nil {
		return nil
	}
	for _, f := range leaves() {
		flag := set.Lookup(FlagName(f.name))
		if flag == nil || f.typ.Kind() == reflect.Slice {
			continue
		}
		if err := v.BindPFlag(viperKey(f.name), flag); err != nil {
			return fmt.Errorf("bind --%s: %w", flag.Name, err)
		}
		if flag.Changed {
			r.origin[f.name] = "--" + flag.Name
		}
	}
	return nil
}

// decoding reports what mapstructure found wrong, each value by itself. Its
// error is a tree, the values that are wrong are the innermost DecodeErrors.
func (r *report) decoding(err error) {
	if err == nil {
		return
	}
	value, isValue := err.(*mapstructure.DecodeError)
	if isValue && !holdsDecodeError(value.Unwrap()) {
		message, hint := describe(value.Unwrap())
		r.add(strings.ToLower(value.Name()), message, hint)
		return
	}
	switch e := err.(type) {
	case interface{ Unwrap() []error }:
		for _, part := range e.Unwrap() {
			r.decoding(part)
		}
	case interface{ Unwrap() error }:
		r.decoding(e.Unwrap())
	default:
		r.add("", err.Error(), "")
	}
}

func holdsDecodeError(err error) bool {
	var value *mapstructure.DecodeError
	return errors.As(err, &value)
}

// describe turns what is wrong with one value into message and hint.
func describe(err error) (message, hint string) {
	var kind *mapstructure.UnconvertibleTypeError
	if errors.As(err, &kind) {
		return "must be " + kindName(kind.Expected.Type()), ""
	}
	if strings.HasPrefix(err.Error(), "netip.ParsePrefix") {
		return "not a network", "write its first address and the prefix length, as in 10.213.0.0/16 or fd53:616c:6c79::/48"
	}
	message, hint, _ = strings.Cut(err.Error(), "; ")
	return message, hint
}
