package vllm

import (
	"slices"
	"strings"
	"testing"
)

func TestFlagFile(t *testing.T) {
	k, err := readFlags()
	if err != nil {
		t.Fatal(err)
	}
	kinds := []kind{boolKind, flagKind, valueKind, intKind, floatKind, listKind, jsonKind, maybeKind}
	for spelling, f := range k.flags {
		if !slices.Contains(kinds, f.kind) || f.name == "" || (spelling != f.name && !slices.Contains(f.short, spelling)) {
			t.Errorf("%s: %+v", spelling, f)
		}
	}
	if len(k.flags) < 220 || !slices.Contains(k.toolParsers, "openai") || !slices.Contains(k.toolParsers, "hermes") || !slices.Contains(k.reasoningParsers, "openai_gptoss") {
		t.Errorf("got %d options, %q, %q", len(k.flags), k.toolParsers, k.reasoningParsers)
	}
	for _, section := range []string{"commit", "@ 0052233", "@ 0011725"} {
		if !strings.Contains(flagFile, section) {
			t.Errorf("flags.txt does not name its source: %s", section)
		}
	}
}

func TestParse(t *testing.T) {
	k, err := readFlags()
	if err != nil {
		t.Fatal(err)
	}
	o, err := k.parse([]string{"/weights/m", "--served-model-name", "a", "b", "--uds=/s", "--max_model_len", "4096", "-tp", "2", "--no-enforce-eager", "--trust-remote-code",
		"--hf-overrides.a.b", "1", "--seed", "-1", "--hf-token", "--headless"})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"--served-model-name": "a", "--uds": "/s", "--max-model-len": "4096", "--tensor-parallel-size": "2",
		"--enforce-eager": "false", "--trust-remote-code": "true", "--hf-overrides": "1", "--seed": "-1", "--headless": "true"} {
		if got := o.value(name, ""); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	if o.model != "/weights/m" || len(o.set["--served-model-name"]) != 2 {
		t.Errorf("got %+v", o)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"m", "--not-an-option", "x"}, "vllm: error: unrecognized arguments: --not-an-option x"},
		{[]string{"m", "n"}, "vllm: error: unrecognized arguments: n"},
		{[]string{"m", "--no-uds"}, "unrecognized arguments: --no-uds"},
		{[]string{"m", "--no-headless"}, "unrecognized arguments: --no-headless"},
		{[]string{"m", "--uds.x", "1"}, "unrecognized arguments: --uds.x"},
		{[]string{"m", "--max-num-seq", "1"}, "unrecognized arguments: --max-num-seq"},
		{[]string{"m", "-zz"}, "unrecognized arguments: -zz"},
		{[]string{"m", "--uds"}, "vllm serve: error: argument --uds: expected one argument"},
		{[]string{"m", "--tensor-parallel-size", "--headless"}, "argument --tensor-parallel-size/-tp: expected one argument"},
		{[]string{"m", "--served-model-name"}, "argument --served-model-name: expected at least one argument"},
		{[]string{"m", "--port", "http"}, "argument --port: invalid int value: 'http'"},
		{[]string{"m", "--gpu-memory-utilization", "most"}, "argument --gpu-memory-utilization: invalid float value: 'most'"},
		{[]string{"m", "--dtype", "fp4"}, "argument --dtype: invalid choice: 'fp4' (choose from 'auto', 'half'"},
		{[]string{"m", "--enforce-eager=yes"}, "argument --enforce-eager/--no-enforce-eager: ignored explicit argument 'yes'"},
	} {
		if _, err := k.parse(c.args); err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "usage: vllm") {
			t.Errorf("%q: got %v", c.args, err)
		}
	}
}
