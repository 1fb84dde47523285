package server

import (
	"fmt"
	"strings"
)

// Cause is why a server failed, of those that are known.
type Cause string

// The known causes. The zero Cause is an unknown one.
const (
	CauseMemory    Cause = "memory"
	CauseContext   Cause = "context" // its KV cache does not fit
	CauseDevice    Cause = "device"
	CauseGroup     Cause = "group"
	CauseImage     Cause = "image"
	CauseCommand   Cause = "command" // it is not in the image, or not installed
	CauseWeights   Cause = "weights"
	CauseEncodings Cause = "encodings" // gpt-oss's vocabulary
	CauseFlag      Cause = "flag"
	CauseSocket    Cause = "socket"
	CauseCache     Cause = "cache" // a folder that it may not write
	CauseDisk      Cause = "disk"
	CauseLocked    Cause = "locked" // another one has the folder
	CauseEngine    Cause = "engine" // vLLM's engine process died
)

// Diagnosis is what a server's last lines and its end say of why it failed. Its
// texts are printable.
type Diagnosis struct {
	Cause Cause
	Text  string // the cause for people; empty: unknown
	Hint  string // what to do; may be empty
	Line  string // of the log, that says so; may be empty
}

// ailment is one known failure.
type ailment struct {
	cause Cause
	words []string // lower case; all must be in one line
	text  string
	hint  string // %s is the server's name
}

// Hints that several ailments share.
const (
	hintMemory = "stop other models on that machine (`launcher status`), lower gpu_memory or context of the model, or take a smaller one"
	hintDevice = "look for /dev/kfd and /dev/dri (AMD) or /dev/nvidia0 (Nvidia) on that machine, and set its hardware: in the configuration: strix-halo, cuda or cpu"
	hintGroup  = "on that machine: `sudo usermod -aG render,video $USER`, then log in again"
	hintPull   = "`launcher pull %s`"
	hintFlag   = "the server's version does not know it: change args of the model in the configuration, or its image"
	hintFolder = "set hosts[].folder, or local.folder for this machine, to a shorter one in the configuration"
	hintCache  = "the server may not write there: see who owns its folder in ~/.cache/sallyport on that machine"
)

// ailments are in the order in which they count: the first that any line shows
// is the cause, since what comes later in a log is mostly its consequence.
// Wordings, with their sources:
var ailments = []ailment{
	// openai/harmony#46, vllm#22525
	{CauseEncodings, []string{"error downloading or loading vocab file"}, "gpt-oss's vocabulary files are not there, and the server has no network to fetch them", hintPull},

	// vllm#20305, #25837, pytorch#175666
	{CauseMemory, []string{"free memory on device", "is less than desired gpu memory utilization"}, "not enough free GPU memory", hintMemory},
	// vllm#2248, #10439
	{CauseMemory, []string{"no available memory for the cache blocks"}, "no GPU memory is left for the KV cache", hintMemory},
	// vllm#2418; the newer wording is "larger than the available KV cache memory"
	{CauseContext, []string{"max seq len", "kv cache"}, "the context is longer than the KV cache can hold", "lower context of the model, or raise its gpu_memory"},
	// lemonade-sdk/vllm-rocm#5, gpustack#4963, noonghunna/club-3090#58
	{CauseMemory, []string{"hip out of memory"}, "out of GPU memory", hintMemory},
	{CauseMemory, []string{"cuda out of memory"}, "out of GPU memory", hintMemory},
	{CauseMemory, []string{"torch.outofmemoryerror"}, "out of GPU memory", hintMemory},
	{CauseMemory, []string{"cudamalloc failed: out of memory"}, "out of GPU memory", hintMemory},
	// ollama#10784, #11265; ggml's allocators
	{CauseMemory, []string{"unable to allocate", "buffer"}, "out of memory", hintMemory},
	{CauseMemory, []string{"failed to allocate", "buffer"}, "out of memory", hintMemory},
	{CauseMemory, []string{"std::bad_alloc"}, "out of memory", hintMemory}, // seen: llama.cpp 0.7.0
	{CauseMemory, []string{"cannot allocate memory"}, "out of memory", hintMemory},

	// ROCm/legacy-rocm-build#1798, ollama#6685
	{CauseGroup, []string{"/dev/kfd", "permission denied"}, "the server may not use the GPU (/dev/kfd)", hintGroup},
	{CauseGroup, []string{"/dev/dri/", "permission denied"}, "the server may not use the GPU (/dev/dri)", hintGroup},
	{CauseGroup, []string{"is not member of", "drm access group"}, "the server may not use the GPU", hintGroup},
	{CauseDevice, []string{"/dev/kfd", "no such file"}, "there is no AMD GPU (/dev/kfd)", hintDevice},
	{CauseDevice, []string{"/dev/dri", "no such file"}, "there is no GPU (/dev/dri)", hintDevice},
	{CauseDevice, []string{"error gathering device information"}, "a GPU device is not there", hintDevice}, // Docker's, at the start
	{CauseDevice, []string{"could not select device driver"}, "the container engine cannot hand out Nvidia GPUs", "install the NVIDIA container toolkit on that machine"},
	// kyuz0/amd-strix-halo-vllm-toolboxes#6, vllm#34573, ROCm/vllm#893: mostly a missing group
	{CauseDevice, []string{"no hip gpus are available"}, "the server sees no AMD GPU", hintDevice + "; the login must be in the groups render and video"},
	{CauseDevice, []string{"no cuda gpus are available"}, "the server sees no GPU", hintDevice},
	{CauseDevice, []string{"failed to infer device type"}, "the server sees no GPU", hintDevice},
	{CauseDevice, []string{"libcuda.so", "cannot open shared object"}, "Nvidia's driver is not there", hintDevice},

	// huggingface_hub: file_download.py, _snapshot_download.py; transformers: utils/hub.py; vllm#1474 of HabanaAI
	{CauseWeights, []string{"localentrynotfounderror"}, "the weights are not there", hintPull},
	{CauseWeights, []string{"cannot find an appropriate cached snapshot folder"}, "the weights are not there", hintPull},
	{CauseWeights, []string{"cannot find the requested files in the local cache"}, "weights are missing", hintPull},
	{CauseWeights, []string{"cannot find the requested files in the disk cache"}, "weights are missing", hintPull},
	{CauseWeights, []string{"couldn't connect to", "cached files"}, "weights are missing", hintPull},
	{CauseWeights, []string{"does not appear to have a file named"}, "weights are missing", hintPull},
	{CauseWeights, []string{"cannot find any model weights"}, "weights are missing", hintPull},
	{CauseWeights, []string{"offlinemodeisenabled"}, "weights are missing", hintPull},
	{CauseWeights, []string{"cache directory not found"}, "the folder of weights is not there", hintPull},
	{CauseWeights, []string{"safetensors", "incomplete metadata"}, "a file of the weights is not whole", hintPull},
	// ggml-org/llama.cpp#15919, #18884; seen: llama.cpp 0.7.0
	{CauseWeights, []string{"failed to open gguf file"}, "the weights are not there", hintPull},
	{CauseWeights, []string{"invalid magic", "gguf"}, "the file of weights is no GGUF file, or not whole", hintPull},
	{CauseWeights, []string{"tensor", "is not within the file bounds"}, "the file of weights is not whole", hintPull},

	// Python's argparse (vllm#22072, #8273), llama.cpp's own
	{CauseFlag, []string{"error: unrecognized arguments:"}, "the server does not know an argument", hintFlag},
	{CauseFlag, []string{"error: argument ", "invalid"}, "an argument has a value that the server does not take", hintFlag},
	{CauseFlag, []string{"error: invalid argument:"}, "the server does not know an argument", hintFlag},
	{CauseFlag, []string{"error while handling argument"}, "an argument has a value that the server does not take", hintFlag},

	// asyncio, uvicorn; llama.cpp
	{CauseSocket, []string{"address already in use"}, "its socket is in use", "`launcher stop %s` on the machine where it was started, then again"},
	{CauseSocket, []string{"couldn't bind http server socket"}, "it cannot open its socket", hintCache},
	{CauseSocket, []string{"af_unix path too long"}, "the path of its socket is too long", hintFolder},

	{CauseDisk, []string{"no space left on device"}, "the disk is full", "make room on that machine"},
	{CauseDisk, []string{"disk quota exceeded"}, "the disk quota is used up", "make room on that machine"},
	{CauseCommand, []string{"executable file not found"}, "the image has no such program", "change image of the model in the configuration"},
	{CauseCommand, []string{"exec format error"}, "the image is for another kind of processor", "change image of the model in the configuration"},
	{CauseCache, []string{"permissionerror:"}, "it may not use a file or folder", hintCache},
	{CauseCache, []string{"read-only file system"}, "it writes where it may not", hintCache},

	// vllm/v1/engine: what is left when nothing above was said (vllm#32180: on gfx1151 it dies silently)
	{CauseEngine, []string{"enginedeaderror"}, "vLLM's engine process died", "`launcher logs %s` has more; `launcher serve %[1]s` starts it again"},
	{CauseEngine, []string{"engine core initialization failed"}, "vLLM's engine process did not start", "`launcher logs %s` has more"},
	{CauseEngine, []string{"enginecore failed to start"}, "vLLM's engine process did not start", "`launcher logs %s` has more"},
}

// Exit codes of a server's runner and of those that start it.
const (
	exitLocked    = 75  // EX_TEMPFAIL: another runner has the folder
	exitNotRun    = 126 // found, but could not be run
	exitNotFound  = 127
	exitKilled    = 128 + 9
	exitAborted   = 128 + 6
	exitBadAccess = 128 + 11
)

// Diagnose says why the server of that name ended, by its last lines, oldest
// first, and how it ended.
func Diagnose(name string, lines []string, st RuntimeState) Diagnosis {
	name = printable(name, maxName)
	if st.OOMKilled {
		return Diagnosis{Cause: CauseMemory, Text: "out of memory: the kernel killed it", Hint: hintMemory}
	}
	if st.ExitCode == exitLocked && st.Phase == PhaseExited {
		return Diagnosis{Cause: CauseLocked, Text: "another server of that name has its folder", Line: lastLine(lines),
			Hint: fmt.Sprintf("it was started in another way (engine or process): `launcher stop %s` there", name)}
	}
	lower := make([]string, len(lines))
	for i, line := range lines {
		lower[i] = strings.ToLower(line[:min(len(line), maxLine)])
	}
	for _, a := range ailments {
		for i, line := range lower {
			if !a.in(line) {
				continue
			}
			d := Diagnosis{Cause: a.cause, Text: a.text, Hint: a.hint, Line: printable(strings.TrimSpace(lines[i]), maxText)}
			if strings.Contains(d.Hint, "%") {
				d.Hint = fmt.Sprintf(d.Hint, name)
			}
			return d
		}
	}
	return byExit(name, st)
}

// in says whether a line, in lower case, shows it.
func (a ailment) in(line string) bool {
	for _, w := range a.words {
		if !strings.Contains(line, w) {
			return false
		}
	}
	return true
}

// byExit is what the exit code alone says.
func byExit(name string, st RuntimeState) Diagnosis {
	if st.Phase != PhaseExited {
		return Diagnosis{}
	}
	switch st.ExitCode {
	case exitKilled:
		return Diagnosis{Cause: CauseMemory, Text: "it was killed, most likely since memory ran out", Hint: hintMemory}
	case exitNotFound, exitNotRun:
		return Diagnosis{Cause: CauseCommand, Text: "the server's program is not there or cannot be run",
			Hint: "change image of the model in the configuration, or install the program on that machine"}
	case exitAborted, exitBadAccess:
		return Diagnosis{Text: "it crashed", Hint: fmt.Sprintf("`launcher logs %s` has more", name)}
	}
	return Diagnosis{}
}

func lastLine(lines []string) string {
	if len(lines) == 0 {
		return ""
	}
	return printable(strings.TrimSpace(lines[len(lines)-1]), maxText)
}
