package server

import (
	"strings"
	"testing"
)

// Real lines, from the sources that diagnose.go names.
func TestDiagnose(t *testing.T) {
	exited := func(code int) RuntimeState { return RuntimeState{Phase: PhaseExited, ExitCode: code} }
	for _, c := range []struct {
		line  string
		cause Cause
		hint  string // a part of it
	}{
		{"(EngineCore_DP0 pid=17374) ERROR 09-28 15:47:24 [core.py:718] ValueError: Free memory on device (3.22/4.0 GiB) on startup is less than desired GPU memory utilization (0.9, 3.6 GiB). Decrease GPU memory utilization or reduce GPU memory used by other processes.", CauseMemory, "gpu_memory"},
		{"ValueError: Free memory on device cuda:0 (111.99/139.8 GiB) on startup is less than desired GPU memory utilization (0.95, 132.81 GiB).", CauseMemory, "gpu_memory"},
		{"ERROR 11-18 18:07:28 engine.py:366] ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization` when initializing the engine.", CauseMemory, "gpu_memory"},
		{"ValueError: The model's max seq len (4096) is larger than the maximum number of tokens that can be stored in KV cache (3664). Try increasing `gpu_memory_utilization` or decreasing `max_model_len` when initializing the engine.", CauseContext, "lower context of the model"},
		{"ValueError: To serve at least one request with the models's max seq len (131072), (18.00 GiB KV cache is needed, which is larger than the available KV cache memory (12.30 GiB).", CauseContext, "lower context of the model"},
		{"torch.OutOfMemoryError: HIP out of memory. Tried to allocate 192.00 GiB. GPU 0 has a total capacity of 62.40 GiB of which 61.11 GiB is free.", CauseMemory, "launcher status"},
		{"[bug] torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 50.00 MiB. GPU 0 has a total capacity of 23.56 GiB of which 56.88 MiB is free", CauseMemory, "launcher status"},
		{"llama_model_load: error loading model: unable to allocate ROCm0 buffer", CauseMemory, "launcher status"},
		{"ggml_backend_vk_buffer_type_alloc_buffer: failed to allocate Vulkan0 buffer of size 4294967296", CauseMemory, "launcher status"},
		{"0.03.839.999 E llama_init_from_model: failed to initialize the context: std::bad_alloc", CauseMemory, "launcher status"},
		{"Unable to open /dev/kfd read-write: Permission denied", CauseGroup, "usermod -aG render,video"},
		{`error="permissions not set up properly.  Either run ollama as root, or add you user account to the render group. open /dev/kfd: permission denied"`, CauseGroup, "usermod"},
		{"PermissionError: [Errno 13] Permission denied: '/dev/dri/renderD128'", CauseGroup, "usermod"},
		{`root is not member of "video" group, the default DRM access group. Users must be a member of the "video" group or another DRM access group in order for ROCm applications to run successfully.`, CauseGroup, "usermod"},
		{"Unable to open /dev/kfd read-write: No such file or directory", CauseDevice, "hardware"},
		{`Error response from daemon: error gathering device information while adding custom device "/dev/kfd": no such file or directory`, CauseDevice, "hardware"},
		{`Error response from daemon: could not select device driver "" with capabilities: [[gpu]]`, CauseDevice, "NVIDIA container toolkit"},
		{"RuntimeError: No HIP GPUs are available", CauseDevice, "render and video"},
		{"RuntimeError: Failed to infer device type, please set the environment variable `VLLM_LOGGING_LEVEL=DEBUG` to turn on verbose logging", CauseDevice, "hardware"},
		{"ImportError: libcuda.so.1: cannot open shared object file: No such file or directory", CauseDevice, "hardware"},
		{"openai_harmony.HarmonyError: error downloading or loading vocab file: failed to download or load vocab file", CauseEncodings, "`launcher pull gpt-oss`"},
		{"huggingface_hub.errors.LocalEntryNotFoundError: Cannot find an appropriate cached snapshot folder for the specified revision on the local disk and outgoing traffic has been disabled.", CauseWeights, "`launcher pull gpt-oss`"},
		{"Cannot find an appropriate cached snapshot folder for the specified revision on the local disk and outgoing traffic has been disabled. To enable repo look-ups and downloads online, set 'HF_HUB_OFFLINE=0' as environment variable.", CauseWeights, "launcher pull"},
		{"OSError: We couldn't connect to 'https://huggingface.example' to load the files, and couldn't find them in the cached files.", CauseWeights, "launcher pull"},
		{"OSError: openai/gpt-oss-120b does not appear to have a file named config.json.", CauseWeights, "launcher pull"},
		{"ERROR 06-24 15:31:46 engine.py:389] Cache directory not found: /data/.cache/huggingface. Please use `cache_dir` argument or set `HF_HUB_CACHE` environment variable.", CauseWeights, "launcher pull"},
		{"safetensors_rust.SafetensorError: Error while deserializing header: incomplete metadata, file not fully covered", CauseWeights, "launcher pull"},
		{"gguf_init_from_file: failed to open GGUF file '/weights/x.gguf' (errno No such file or directory)", CauseWeights, "launcher pull"},
		{"vllm: error: unrecognized arguments: --omni", CauseFlag, "args"},
		{"vllm serve: error: argument --tool-call-parser: invalid choice: 'x' (choose from hermes, openai)", CauseFlag, "args"},
		{"error: invalid argument: --nonsense", CauseFlag, "args"},
		{"OSError: [Errno 98] error while attempting to bind on address ('127.0.0.1', 8000): address already in use", CauseSocket, "launcher stop gpt-oss"},
		{"OSError: AF_UNIX path too long", CauseSocket, "hosts[].folder"},
		{"PermissionError: [Errno 13] Permission denied: '/run/sallyport/model/home/.cache'", CauseCache, "owns"},
		{"OSError: [Errno 28] No space left on device: '/run/sallyport/model/home/.cache/vllm'", CauseDisk, "room"},
		{`OCI runtime create failed: exec: "vllm": executable file not found in $PATH`, CauseCommand, "image"},
		{"(APIServer pid=1) ERROR 05-05 12:36:59 [serving.py:1173] vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue. See stack trace (above) for the root cause.", CauseEngine, "`launcher serve gpt-oss`"},
		{"(APIServer pid=7) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}", CauseEngine, "launcher logs gpt-oss"},
		{"ValueError: something that nobody has seen yet", "", ""},
	} {
		got := Diagnose("gpt-oss", []string{"INFO before", c.line, "INFO after"}, exited(1))
		if got.Cause != c.cause || !strings.Contains(got.Hint, c.hint) || (got.Text == "") != (c.cause == "") || strings.Contains(got.Hint, "%!") {
			t.Errorf("%s:\n got %+v\nwant cause %q, hint with %q", c.line, got, c.cause, c.hint)
		}
		if c.cause != "" && !strings.HasPrefix(c.line, strings.TrimSuffix(got.Line, "…")) {
			t.Errorf("%s: line %q", c.line, got.Line)
		}
	}
}

// The line that tells is the server's own: it is shown, never obeyed.
func TestDiagnoseShowsTheLinePrintable(t *testing.T) {
	got := Diagnose("a\x1b", []string{"\x07\x1b[2J CUDA out of memory \u202e" + strings.Repeat("x", 5000)}, RuntimeState{Phase: PhaseExited, ExitCode: 1})
	if got.Cause != CauseMemory || printable(got.Line, maxText+1) != got.Line || !strings.HasPrefix(got.Line, `\x07\x1b[2J CUDA`) {
		t.Errorf("got %+v", got)
	}
	if got = Diagnose("a\x1b", []string{"failed to open GGUF file"}, RuntimeState{}); got.Hint != "`launcher pull a\\x1b`" {
		t.Errorf("hint %q", got.Hint)
	}
}

// The end itself says something too, and outweighs the log where it is sure.
func TestDiagnoseByTheEnd(t *testing.T) {
	for _, c := range []struct {
		st    RuntimeState
		lines []string
		cause Cause
		text  string
	}{
		{RuntimeState{Phase: PhaseExited, ExitCode: 137, OOMKilled: true}, []string{"RuntimeError: No HIP GPUs are available"}, CauseMemory, "the kernel killed it"},
		{RuntimeState{Phase: PhaseExited, ExitCode: 137}, nil, CauseMemory, "most likely"},
		{RuntimeState{Phase: PhaseExited, ExitCode: 137}, []string{"Unable to open /dev/kfd read-write: Permission denied"}, CauseGroup, "GPU"},
		{RuntimeState{Phase: PhaseExited, ExitCode: 127}, nil, CauseCommand, "not there"},
		{RuntimeState{Phase: PhaseExited, ExitCode: 75}, []string{"held by me@other"}, CauseLocked, "another server"},
		{RuntimeState{Phase: PhaseExited, ExitCode: 139}, nil, "", "crashed"},
		{RuntimeState{Phase: PhaseExited, ExitCode: 1}, nil, "", ""},
		{RuntimeState{Phase: PhaseRunning, ExitCode: 0}, nil, "", ""},
		{RuntimeState{}, nil, "", ""},
	} {
		got := Diagnose("gpt-oss", c.lines, c.st)
		if got.Cause != c.cause || !strings.Contains(got.Text, c.text) || c.text == "" && got.Text != "" {
			t.Errorf("%+v: got %+v, want %q with %q", c.st, got, c.cause, c.text)
		}
	}
}

// Logs of the real llama.cpp, made to fail.
func TestDiagnoseWholeLogs(t *testing.T) {
	for name, want := range map[string]Cause{
		"llama-server-none.log": CauseWeights,
		"llama-server-bad.log":  CauseWeights,
		"llama-server-mem.log":  CauseMemory,
		"llama-server-flag.log": CauseFlag,
		"llama-server-sock.log": CauseSocket,
		"llama-server-ok.log":   "",
		"vllm.log":              "", // nothing in a good start looks like a failure
	} {
		if got := Diagnose("gpt-oss", logOf(t, name), RuntimeState{Phase: PhaseExited, ExitCode: 1}); got.Cause != want {
			t.Errorf("%s: got %+v, want %q", name, got, want)
		}
	}
}

// The cause comes before its consequences, wherever it stands in the log.
func TestDiagnoseFindsTheRootCause(t *testing.T) {
	got := Diagnose("gpt-oss", []string{
		"(APIServer pid=7) RuntimeError: Engine core initialization failed. See root cause above.",
		"(EngineCore_DP0 pid=61) torch.OutOfMemoryError: HIP out of memory. Tried to allocate 2.00 GiB",
	}, RuntimeState{Phase: PhaseExited, ExitCode: 1})
	if got.Cause != CauseMemory {
		t.Errorf("got %+v", got)
	}
}

func TestFailedErrorIsOneLineAndIndentedOnes(t *testing.T) {
	lines := []string{"early: HIP out of memory"}
	for range 20 {
		lines = append(lines, "\tat \x1b]0;title\x07 "+strings.Repeat("z", 500))
	}
	e := &FailedError{Server: "gpt-oss", Machine: "strix", How: "ended with exit code 1 after 3s", Last: shown(lines), Why: "out of GPU memory", Line: "early: HIP out of memory", Hint: "stop others"}
	got := strings.Split(e.Error(), "\n")
	if len(got) != 1+2+maxShown+1 || got[0] != "model server gpt-oss on strix ended with exit code 1 after 3s: out of GPU memory" || got[len(got)-1] != "hint: stop others" {
		t.Errorf("got %d lines:\n%s", len(got), e)
	}
	for _, line := range got[1 : len(got)-1] {
		if !strings.HasPrefix(line, "  ") || len(line) > maxText+10 || strings.ContainsAny(line, "\x1b\x07\t") {
			t.Errorf("line %q", line)
		}
	}
	if got := (&FailedError{Server: "gpt-oss", Machine: "strix", How: "ended"}).Error(); got != "model server gpt-oss on strix ended\n  (it wrote nothing)\nhint: `launcher logs gpt-oss` has more" {
		t.Errorf("got %s", got)
	}
}

func TestBeside(t *testing.T) {
	const gb = 1e9
	for _, c := range []struct {
		name            string
		others          []Other
		need, available int64
		want            string
	}{
		{"it fits", []Other{{"a", 9 * gb, 0}}, 60 * gb, 70 * gb, ""},
		{"nobody knows its size", []Other{{"a", 9 * gb, 0}}, 0, -1, ""},
		{"one is enough", []Other{{"qwen3-next", 47 * gb, 0}}, 65 * gb, 30 * gb, "it needs about 65 GB, 30 GB is free: `launcher stop qwen3-next` frees about 47 GB"},
		{"the idle one before the busy one", []Other{{"busy", 40 * gb, 2}, {"idle", 50 * gb, 0}}, 65 * gb, 30 * gb, "it needs about 65 GB, 30 GB is free: `launcher stop idle` frees about 50 GB"},
		{"the small one before the large one", []Other{{"large", 80 * gb, -1}, {"small", 40 * gb, 0}}, 65 * gb, 30 * gb, "it needs about 65 GB, 30 GB is free: `launcher stop small` frees about 40 GB"},
		{"as few as possible", []Other{{"a", 10 * gb, 0}, {"b", 20 * gb, 0}, {"c", 30 * gb, 0}}, 50 * gb, 5 * gb, "it needs about 50 GB, 5.0 GB is free: `launcher stop c b` frees about 50 GB"},
		{"all are too little", []Other{{"a", 10 * gb, 0}}, 65 * gb, 3 * gb, "it needs about 65 GB, 3.0 GB is free; stopping all others would not be enough (10 GB): take a smaller model"},
		{"their sizes are unknown", []Other{{"a", 0, 0}, {"b", 0, 0}}, 65 * gb, 3 * gb, "it needs about 65 GB, 3.0 GB is free: `launcher stop a b` (what they use is not known)"},
		{"nothing else runs", nil, 65 * gb, -5, "it needs about 65 GB, 0.0 GB is free, and no other model runs there: take a smaller one"},
		{"a name that is none", []Other{{"a\x1b[2J", 50 * gb, 0}}, 65 * gb, 30 * gb, "it needs about 65 GB, 30 GB is free: `launcher stop a\\x1b[2J` frees about 50 GB"},
	} {
		if got := Beside(c.others, c.need, c.available); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
	}
}
