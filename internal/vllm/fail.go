package vllm

import (
	"errors"
	"fmt"
	"strings"
)

// failure is how vLLM ends: the process that found out, and the last lines of its
// traceback.
type failure struct{ process, message string }

func (f failure) Error() string { return f.message }

// tell writes the end of a failed start as vLLM does, tracebacks shortened.
func (p *process) tell(err error) {
	var f failure
	if !errors.As(err, &f) {
		f = failure{"APIServer", "OSError: " + err.Error()}
	}
	last := strings.Split(f.message, "\n")
	if f.process == "EngineCore" {
		p.journal.failed("core.py:1136", "EngineCore failed to start.")
		p.journal.failed("core.py:1136", "Traceback (most recent call last):")
		for _, line := range last {
			p.journal.failed("core.py:1136", "%s", line)
		}
		last = []string{"RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}"}
	}
	p.journal.raw("(APIServer pid=%d) Traceback (most recent call last):\n", p.journal.pid)
	for _, line := range last {
		p.journal.raw("(APIServer pid=%d) %s\n", p.journal.pid, line)
	}
}

// device fails where vLLM and PyTorch first look for the GPU.
func (p *process) device() error {
	switch p.settings.fail {
	case failNoDevice: // vllm/config/device.py
		return failure{"EngineCore", "RuntimeError: Failed to infer device type, please set the environment variable `VLLM_LOGGING_LEVEL=DEBUG` to turn on verbose logging to help debug the issue."}
	case failNoGroup: // ROCm's runtime, then kyuz0/amd-strix-halo-vllm-toolboxes#6
		p.journal.raw("Unable to open /dev/kfd read-write: Permission denied\n")
		return failure{"EngineCore", "RuntimeError: No HIP GPUs are available"}
	case failBusy: // vllm/v1/worker/utils.py
		return failure{"EngineCore", "ValueError: Free memory on device cuda:0 (18.55/127.0 GiB) on startup is less than desired GPU memory utilization (0.9, 114.3 GiB). Decrease GPU memory utilization or reduce GPU memory used by other processes."}
	}
	return nil
}

// outOfMemory is PyTorch's text on gfx1151: lemonade-sdk/vllm-rocm#5.
func outOfMemory() error {
	return failure{"EngineCore", "torch.OutOfMemoryError: HIP out of memory. Tried to allocate 12.95 GiB. GPU 0 has a total capacity of 127.00 GiB of which 8.55 GiB is free. Of the allocated memory 99.37 GiB is allocated by PyTorch, and 121.80 MiB is reserved by PyTorch but unallocated. If reserved but unallocated memory is large try setting PYTORCH_ALLOC_CONF=expandable_segments:True to avoid fragmentation.  See documentation for Memory Management  (https://pytorch.org/docs/stable/notes/cuda.html#environment-variables)"}
}

// noRoomForContext is vllm/v1/core/kv_cache_utils.py's text.
func noRoomForContext(tokens int) error {
	return failure{"EngineCore", fmt.Sprintf("ValueError: To serve at least one request with the models's max seq len (%d), (24.00 GiB KV cache is needed, which is larger than the available KV cache memory (18.38 GiB). Based on the available memory, the estimated maximum model length is 65536. Try increasing `gpu_memory_utilization` or decreasing `max_model_len` when initializing the engine.", tokens)}
}
