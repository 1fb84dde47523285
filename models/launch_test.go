package models

import (
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func launch(t *testing.T, name string, o Override, change func(*Place)) (Launch, error) {
	t.Helper()
	p, ok := Resolve(name)
	if !ok {
		t.Fatalf("no %s", name)
	}
	pl := place()
	if change != nil {
		change(&pl)
	}
	return Merge(p, o).Launch(pl)
}

func TestLaunchInAContainer(t *testing.T) {
	l, err := launch(t, "gpt-oss", Override{IdleStop: time.Hour}, func(pl *Place) { pl.By, pl.IdleStop = "me@laptop", 30*time.Minute })
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"/run/sallyport/gateway", "model-run", "--folder", "/run/sallyport/model", "--idle-stop", "30m0s", "--by", "me@laptop", "--"}; !slices.Equal(l.Runner, want) {
		t.Errorf("got %q", l.Runner)
	}
	if want := []Mount{
		{"/home/me/.cache/sallyport/models/m", "/run/sallyport/model", false},
		{"/home/me/.cache/huggingface/hub", "/weights/hub", true},
		{"/home/me/.cache/sallyport/bin/gateway-0123456789abcdef", "/run/sallyport/gateway", true},
		{"/home/me/.cache/huggingface/sallyport-encodings", "/weights/sallyport-encodings", true},
	}; !slices.Equal(l.Mounts, want) {
		t.Errorf("got %+v", l.Mounts)
	}
	if !slices.Equal(l.Devices, []string{"/dev/dri/card0", "/dev/dri/renderD128", "/dev/kfd"}) || !slices.Equal(l.Groups, []int{44, 992}) {
		t.Errorf("got %v, %v", l.Devices, l.Groups)
	}
	if !l.SeccompUnconfined || !l.IPCHost || l.GPUs || l.UID != 1000 || l.GID != 1000 || l.Socket != "/home/me/.cache/sallyport/models/m/model.sock" {
		t.Errorf("got %+v", l)
	}
	if l.Image != "docker.io/kyuz0/vllm-therock-gfx1151:stable" || l.Placeholder || l.Weights.GB != 65 {
		t.Errorf("got %+v", l)
	}
}

func TestLaunchAsAProcess(t *testing.T) {
	l, err := launch(t, "qwen3-next", Override{Engine: LlamaCPP}, func(pl *Place) {
		pl.Container, pl.Command, pl.Hardware = false, "/opt/llama/llama-server", CPU
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"/home/me/.cache/sallyport/bin/gateway-0123456789abcdef", "model-run", "--folder", "/home/me/.cache/sallyport/models/m", "--netns", "--"}; !slices.Equal(l.Runner, want) {
		t.Errorf("got %q", l.Runner)
	}
	if l.Argv[0] != "/opt/llama/llama-server" || slices.Contains(l.Argv, "-ngl") || !slices.Contains(l.Argv, "/home/me/.cache/sallyport/models/m/server.sock") {
		t.Errorf("got %q", l.Argv)
	}
	if l.Image != "" || l.Mounts != nil || l.Devices != nil || l.SeccompUnconfined || l.IPCHost {
		t.Errorf("got %+v", l)
	}
	if !l.Placeholder || !strings.Contains(l.String(), "/snapshots/REVISION/Qwen3-Next-80B-A3B-Instruct-Q4_K_M.gguf") {
		t.Errorf("the placeholder is not told: %s", l)
	}
}

func TestLaunchOnOtherHardware(t *testing.T) {
	for _, c := range []struct {
		o        Override
		devices  []string
		hardware Hardware
		image    string
		command  string
		gpus     bool
		shmMB    int64
		memory   string
	}{
		{Override{}, []string{"/dev/nvidia0", "/dev/nvidiactl"}, CUDA, "docker.io/vllm/vllm-openai:latest", "vllm", true, 10240, "0.90"},
		{Override{GPUMemory: 0.5}, []string{"/dev/nvidia0"}, CUDA, "docker.io/vllm/vllm-openai:latest", "vllm", true, 10240, "0.50"},
		{Override{Engine: LlamaCPP}, []string{"/dev/nvidia0"}, CUDA, "ghcr.io/ggml-org/llama.cpp:server-cuda", "/app/llama-server", true, 0, ""},
		{Override{}, []string{}, CPU, "public.ecr.aws/q9t5s3a7/vllm-cpu-release-repo:latest", "vllm", false, 4096, ""},
		{Override{Engine: LlamaCPP, Image: "mine"}, []string{"/dev/dri/card0"}, CPU, "mine", "llama-server", false, 0, ""},
		{Override{Engine: LlamaCPP}, []string{"/dev/kfd", "/dev/dri/renderD128"}, StrixHalo, "docker.io/kyuz0/amd-strix-halo-toolboxes:vulkan-radv", "llama-server", false, 0, ""},
	} {
		l, err := launch(t, "gpt-oss-20b", c.o, func(pl *Place) { pl.Hardware, pl.Devices = "", c.devices })
		if err != nil {
			t.Error(err)
			continue
		}
		if l.Hardware != c.hardware || l.Image != c.image || l.Argv[0] != c.command || l.GPUs != c.gpus || l.ShmMB != c.shmMB {
			t.Errorf("%v: got %s %s %s %v %d", c.devices, l.Hardware, l.Image, l.Argv[0], l.GPUs, l.ShmMB)
		}
		i := slices.Index(l.Argv, "--gpu-memory-utilization")
		if c.memory == "" && i >= 0 || c.memory != "" && (i < 0 || l.Argv[i+1] != c.memory) {
			t.Errorf("%v: got %q", c.devices, l.Argv)
		}
		if l.Hardware != StrixHalo && (l.Devices != nil || l.Groups != nil) {
			t.Errorf("%v: got %v, %v", c.devices, l.Devices, l.Groups)
		}
	}
	if l, _ := launch(t, "gpt-oss", Override{}, func(pl *Place) { pl.Devices = nil }); !slices.Equal(l.Devices, []string{"/dev/kfd", "/dev/dri"}) {
		t.Errorf("of a machine nobody looked at: got %v", l.Devices)
	}
}

func TestLaunchRefuses(t *testing.T) {
	long := "/home/" + strings.Repeat("x", 90)
	for _, c := range []struct {
		name   string
		o      Override
		change func(*Place)
		want   string
	}{
		{"somebody else's", Override{Endpoint: "http://h:1"}, nil, "remove endpoint"},
		{"an engine without a server", Override{Engine: Demo}, nil, "vllm or llama.cpp"},
		{"no GGUF", Override{Engine: LlamaCPP, Model: "org/other"}, nil, "file:"},
		{"a GGUF elsewhere", Override{Engine: LlamaCPP, File: "../../x.gguf"}, nil, "file:"},
		{"no weights", Override{Model: "gpt"}, nil, "ORG/NAME"},
		{"a name with a slash", Override{Name: "a/b"}, nil, "63 at most"},
		{"a name like an option", Override{Name: "-rf"}, nil, "63 at most"},
		{"a name that climbs", Override{Name: ".."}, nil, "63 at most"},
		{"served with a slash", Override{Served: "openai/gpt"}, nil, `without "/"`},
		{"served like an option", Override{Served: "--help"}, nil, `without "/"`},
		{"too much memory", Override{GPUMemory: 90}, nil, "0.90"},
		{"hardware", Override{Hardware: "tpu"}, func(pl *Place) { pl.Hardware = "" }, "strix-halo, cuda or cpu"},
		{"no kfd", Override{}, func(pl *Place) { pl.Devices = []string{"/dev/dri/card0"} }, "needs /dev/kfd"},
		{"no device at all", Override{}, func(pl *Place) { pl.Devices = []string{} }, "needs /dev/kfd"},
		{"long path", Override{}, func(pl *Place) { pl.Folder = long }, "hosts[].folder, or local.folder for this machine"},
		{"relative", Override{}, func(pl *Place) { pl.Folder = "models" }, "absolute"},
		{"two lines", Override{}, func(pl *Place) { pl.Weights = "/a\nb" }, "absolute"},
		{"all of it", Override{}, func(pl *Place) { pl.Weights = "/" }, "absolute"},
		{"a snapshot elsewhere", Override{}, func(pl *Place) { pl.Snapshot = "/etc" }, "are not in"},
		{"a snapshot that climbs", Override{}, func(pl *Place) { pl.Snapshot = pl.Weights + "/../x" }, "are not in"},
		{"a snapshot beside the hub's", Override{}, func(pl *Place) { pl.Snapshot = pl.Weights + "/x" }, "are not in"},
		{"a snapshot beside", Override{}, func(pl *Place) { pl.Snapshot = pl.Weights + "2/x" }, "are not in"},
		{"another socket", Override{Args: []string{"--uds", "/tmp/s"}}, nil, "not yours to set"},
		{"another socket, shortened", Override{Args: []string{"--ud=/tmp/s"}}, nil, "not yours to set"},
		{"a port", Override{Args: []string{"--port=8000"}}, nil, "not yours to set"},
		{"a key in a process list", Override{Args: []string{"--api_key", "s3cret"}}, nil, "--api-key is not yours"},
		{"a token in a process list", Override{Args: []string{"--hf-token=hf_x"}}, nil, "HF_TOKEN"},
		{"a word", Override{Args: []string{"max-num-seqs"}}, nil, "entry of its own"},
		{"llama's port", Override{Engine: LlamaCPP, Args: []string{"--port", "1"}}, nil, "not yours to set"},
		{"llama's helpers elsewhere", Override{Engine: LlamaCPP, Args: []string{"--rpc", "h:1"}}, nil, "no network"},
		{"no variable", Override{Env: []string{"A"}}, nil, "NAME=VALUE"},
		{"a bad variable", Override{Env: []string{"A B=c"}}, nil, "NAME=VALUE"},
		{"a secret", Override{Env: []string{"HF_TOKEN=hf_x"}}, nil, "launcher pull"},
		{"a key", Override{Env: []string{"VLLM_API_KEY=x"}}, nil, "looks like a secret"},
		{"two lines of a variable", Override{Env: []string{"A=b\nc"}}, nil, "more than one line"},
	} {
		l, err := launch(t, "gpt-oss", c.o, c.change)
		if err == nil {
			t.Errorf("%s: started: %s", c.name, l)
			continue
		}
		if !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hf_x") || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestSocketPathsFit(t *testing.T) {
	for _, c := range []struct {
		name      string
		engine    Engine
		container bool
		longest   int // of the folder
	}{
		{"container", VLLM, true, 107 - len("/server.sock")},
		{"llama.cpp as a process", LlamaCPP, false, 107 - len("/server.sock")},
		{"vLLM's own sockets, as a process", VLLM, false, 107 - len("/c4a760a8-dbcf-5254-a0d9-6a4474bd1b62")},
	} {
		for extra, ok := range map[int]bool{0: true, 1: false} {
			folder := "/" + strings.Repeat("x", c.longest-1+extra)
			_, err := launch(t, "gpt-oss", Override{Engine: c.engine}, func(pl *Place) { pl.Folder, pl.Container = folder, c.container })
			if (err == nil) != ok {
				t.Errorf("%s, %d bytes: %v", c.name, len(folder), err)
			}
		}
	}
}

func TestTheUsersArgumentsWin(t *testing.T) {
	l, err := launch(t, "gpt-oss", Override{
		Args: []string{"--max-num-seqs", "2", "--tensor_parallel_size=2", "--no-enable-auto-tool-choice", "--gpu-memory-utilization=0.8", "--seed", "-1"},
		Env:  []string{"HF_HOME=/elsewhere", "EXTRA=a b", "TOKENIZERS_PARALLELISM=false"},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, gone := range []string{"--tensor-parallel-size", "--enable-auto-tool-choice", "--gpu-memory-utilization"} {
		if slices.Contains(l.Argv, gone) {
			t.Errorf("%s is still there: %q", gone, l.Argv)
		}
	}
	if i := slices.Index(l.Argv, "--max-num-seqs"); i < 0 || l.Argv[i+1] != "2" || slices.Contains(l.Argv, "8") {
		t.Errorf("got %q", l.Argv)
	}
	if !slices.Contains(l.Env, "HF_HOME=/elsewhere") || !slices.Contains(l.Env, "EXTRA=a b") || slices.Contains(l.Env, "HF_HOME=/run/sallyport/model/home/.cache/huggingface") {
		t.Errorf("got %q", l.Env)
	}
	l, err = launch(t, "gpt-oss", Override{Engine: LlamaCPP, Args: []string{"-c", "4096", "--flash-attn", "off"}}, nil)
	if err != nil || slices.Contains(l.Argv, "--ctx-size") || slices.Contains(l.Argv, "-fa") {
		t.Errorf("got %q, %v", l.Argv, err)
	}
}

// TestStringIsTheCommand has a shell take the printed command apart again.
func TestStringIsTheCommand(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"docker", "cd", "env"} {
		if err := os.WriteFile(dir+"/"+name, []byte("#!/bin/sh\nprintf '%s\\n' \"$@\"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	odd := Override{Args: []string{"--hf-overrides", `{"a": "it's $HOME"}`, "&&", `X="$PATH"`, `PATH="$PATH"`},
		Env: []string{"A=`b` \\ \"c\"", `MY_PATH="$PATH"`, `B=x="$LD_LIBRARY_PATH"`, "C=;"}}
	for _, container := range []bool{true, false} {
		l, err := launch(t, "gpt-oss", odd, func(pl *Place) {
			pl.Container, pl.By = container, "me & you@laptop\x1b[31m"
			pl.Weights = "/home/me/my weights"
		})
		if err != nil {
			t.Fatal(err)
		}
		again, _ := launch(t, "gpt-oss", odd, func(pl *Place) {
			pl.Container, pl.By = container, "me & you@laptop\x1b[31m"
			pl.Weights = "/home/me/my weights"
		})
		script := l.String()
		if script != again.String() || strings.Contains(script, "\x1b") {
			t.Errorf("not the same twice, or not printable: %q", script)
		}
		script = strings.Replace(script, "cd "+l.WorkDir+" && ", "", 1)
		cmd := exec.Command("/bin/sh", "-c", script)
		cmd.Env = []string{"PATH=" + dir + ":/usr/bin:/bin"}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s\n%s", err, out, script)
		}
		words := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
		var tail []string
		if container {
			tail = append(append([]string{l.Image}, l.Runner[1:]...), l.Argv...)
			if words[0] != "run" || !contains(words, "--network", "none") || !contains(words, "--entrypoint", l.Runner[0]) || !contains(words, "--cap-drop", "ALL") ||
				!contains(words, "--user", "1000:1000") || !contains(words, "--name", "sallyport-model-gpt-oss-120b-1000") ||
				!contains(words, "--mount", "type=bind,source=/home/me/my weights/hub,target=/weights/hub,readonly,bind-propagation=private,bind-nonrecursive") {
				t.Errorf("got %q", words)
			}
		} else {
			tail = append(slices.Clone(l.Runner), l.Argv...)
		}
		if len(words) < len(tail) || !reflect.DeepEqual(words[len(words)-len(tail):], tail) {
			t.Errorf("got %q\nwant %q at its end", words, tail)
		}
		for _, e := range l.Env {
			if !slices.Contains(words, e) {
				t.Errorf("%s is missing", e)
			}
		}
	}
}

func contains(words []string, a, b string) bool {
	for i := range len(words) - 1 {
		if words[i] == a && words[i+1] == b {
			return true
		}
	}
	return false
}

func TestKnownTrouble(t *testing.T) {
	gpt, _ := Resolve("gpt-oss")
	for _, c := range []struct{ server, claude, want string }{
		{"0.20.1", "2.1.331", "vllm#44000"},
		{"0.20.1", "2.1.154", "vllm#44000"},
		{"0.20.1", "2.1.153", ""},
		{"0.11.0", "2.1.331", "vllm#44000"},
		{"0.22.9.dev12+gabc", "2.1.331 (Claude Code)", "vllm#44000"},
		{"0.10.2", "2.1.100", "no /v1/messages"},
		{"0.23.0", "2.1.206", ""},
		{"0.24.0", "2.1.207", "vllm#48874"},
		{"v0.25.1", "2.1.331", "vllm#48874"},
		{"0.26.0", "2.1.331", ""},
		{"1.0", "2.1.331", ""},
		{"", "2.1.331", ""},
		{"0.20.1", "", ""},
		{"dev", "2.1.331", ""},
		{"99999999999999999999.1", "2.1.331", ""},
	} {
		got := gpt.KnownTrouble(c.server, c.claude)
		if c.want == "" && got != "" || !strings.Contains(got, c.want) || (got != "" && !strings.Contains(got, "hint:")) {
			t.Errorf("%s × %s: got %q, want %q", c.server, c.claude, got, c.want)
		}
	}
	if got := Merge(gpt, Override{Engine: LlamaCPP}).KnownTrouble("0.20.1", "2.1.331"); got != "" {
		t.Errorf("llama.cpp: %s", got)
	}
	if got := Merge(gpt, Override{Endpoint: "http://h:1"}).KnownTrouble("0.20.1", "2.1.331"); got == "" {
		t.Error("somebody else's vLLM has no trouble")
	}
}

func TestDetectHardware(t *testing.T) {
	for _, c := range []struct {
		devices []string
		want    Hardware
	}{
		{nil, CPU},
		{[]string{"/dev/dri/renderD128"}, CPU},
		{[]string{"/dev/kfd", "/dev/dri/renderD128"}, StrixHalo},
		{[]string{"/dev/kfd", "/dev/nvidia0"}, CUDA},
	} {
		if got := DetectHardware(c.devices); got != c.want {
			t.Errorf("%v: got %s", c.devices, got)
		}
	}
}
