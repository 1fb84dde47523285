package models

import (
	"fmt"
	"slices"
	"strings"
)

// Hardware is a preset: image, devices and environment for a kind of machine.
type Hardware string

// The presets.
const (
	StrixHalo Hardware = "strix-halo" // AMD Ryzen AI Max (gfx1151), its memory shared between CPU and GPU
	CUDA      Hardware = "cuda"       // Nvidia
	CPU       Hardware = "cpu"        // no GPU
)

// DetectHardware tells the preset from a machine's device files. /dev/kfd is
// AMD's compute device; another AMD GPU than Strix Halo needs an image of its
// own in the configuration.
func DetectHardware(devices []string) Hardware {
	found := CPU
	for _, d := range devices {
		switch {
		case strings.HasPrefix(d, "/dev/nvidia"):
			return CUDA
		case d == "/dev/kfd":
			found = StrixHalo
		}
	}
	return found
}

// preset is what a server needs on one kind of hardware.
type preset struct {
	images    map[Engine]string
	command   map[Engine]string // in the container, where it is not in PATH under its own name
	devices   map[Engine][]string
	env       map[Engine][]string
	args      map[Engine][]option
	seccomp   bool // unconfined
	ipcHost   bool
	gpus      bool
	shmMB     int64
	gpuMemory float64 // zero: not for this hardware
}

// presets returns the table. The sources are those of profiles.go, and:
//
//	kyuz0 docker  docs/ubuntu-docker.md @ 02730c4 and scripts/run-ubuntu-docker-vllm.sh @ c93eb4f
//	kyuz0 env     scripts/01-rocm-env-for-triton.sh @ 4a22a7a
//	toolboxes     kyuz0/amd-strix-halo-toolboxes README.md @ d1a34be
//	vLLM docker   docs.vllm.ai/en/stable/deployment/docker
//	llama.cpp     ggml-org/llama.cpp docs/docker.md
func presets() map[Hardware]preset {
	return map[Hardware]preset{
		StrixHalo: strixHalo(),
		CUDA: {
			images: map[Engine]string{
				VLLM:     "docker.io/vllm/vllm-openai:latest",      // vLLM docker
				LlamaCPP: "ghcr.io/ggml-org/llama.cpp:server-cuda", // llama.cpp
			},
			command:   map[Engine]string{LlamaCPP: "/app/llama-server"}, // llama.cpp .devops/cuda.Dockerfile
			args:      map[Engine][]option{LlamaCPP: {{"-ngl", "99"}}},
			gpus:      true,
			shmMB:     10240, // vLLM docker: --ipc=host or --shm-size; the narrower of the two
			gpuMemory: 0.90,
		},
		CPU: {
			images: map[Engine]string{
				VLLM:     "public.ecr.aws/q9t5s3a7/vllm-cpu-release-repo:latest", // vLLM docker
				LlamaCPP: "ghcr.io/ggml-org/llama.cpp:server",                    // llama.cpp
			},
			command: map[Engine]string{LlamaCPP: "/app/llama-server"},
			shmMB:   4096,
		},
	}
}

func strixHalo() preset {
	return preset{
		images: map[Engine]string{
			VLLM: "docker.io/kyuz0/vllm-therock-gfx1151:stable", // kyuz0 docker
			// toolboxes: "Most stable and compatible. Recommended for most users and all models."
			LlamaCPP: "docker.io/kyuz0/amd-strix-halo-toolboxes:vulkan-radv",
		},
		devices: map[Engine][]string{
			VLLM:     {"/dev/kfd", "/dev/dri"}, // kyuz0 docker
			LlamaCPP: {"/dev/dri"},             // toolboxes, for Vulkan
		},
		seccomp:   true, // kyuz0 docker, toolboxes: --security-opt seccomp=unconfined
		ipcHost:   true, // kyuz0 docker: --ipc=host
		gpuMemory: 0.90, // kyuz0 start_vllm.py: "0.95 often leads to OOM at startup on Strix Halo APUs"; set-up has 0.95
		args: map[Engine][]option{
			VLLM:     {{"--attention-backend", "TRITON_ATTN"}}, // kyuz0 start_vllm.py, its default
			LlamaCPP: {{"-ngl", "99"}},                         // set-up at c1e8be5
		},
		// VLLM_ROCM_USE_AITER is not here on purpose: kyuz0 start_vllm.py unsets it, "vLLM crashes on RDNA APUs" with it.
		env: map[Engine][]string{VLLM: {
			"TORCH_ROCM_AOTRITON_ENABLE_EXPERIMENTAL=1", // kyuz0 env
			"FLASH_ATTENTION_TRITON_AMD_ENABLE=TRUE",    // kyuz0 env
			"VLLM_TARGET_DEVICE=rocm",                   // kyuz0 env
			"VLLM_USE_TRITON_AWQ=1",                     // kyuz0 env
			"MIOPEN_FIND_MODE=FAST",                     // kyuz0 env: an exhaustive search hangs on gfx1151
			"PYTHONNOUSERSITE=1",                        // kyuz0 env
			"HSA_OVERRIDE_GFX_VERSION=11.5.1",           // mudler/LocalAI#9229
			"ROCBLAS_USE_HIPBLASLT=1",                   // mudler/LocalAI#9229
		}},
	}
}

// hardware decides for a place: its own, the profile's, or what its devices say.
func (p Profile) hardware(pl Place) (Hardware, preset, error) {
	h := pl.Hardware
	if h == "" {
		h = p.Hardware
	}
	if h == "" {
		h = DetectHardware(pl.Devices)
	}
	pre, ok := presets()[h]
	if !ok {
		return "", preset{}, fmt.Errorf("model %s: hardware %q is not known; hint: strix-halo, cuda or cpu", p.Name, string(h))
	}
	return h, pre, nil
}

// usable returns those of the machine's device files that the preset wants:
// itself, or what lies in it. A nil have is a machine that nobody looked at.
func (p Profile) usable(h Hardware, want, have []string) ([]string, error) {
	if have == nil {
		return slices.Clone(want), nil
	}
	var found []string
	for _, w := range want {
		n := len(found)
		for _, d := range have {
			if d == w || strings.HasPrefix(d, w+"/") {
				found = append(found, d)
			}
		}
		if len(found) == n {
			return nil, fmt.Errorf("model %s: hardware %s needs %s, and the machine has none; hint: is its driver loaded (amdgpu)? Or set hardware: cpu", p.Name, h, w)
		}
	}
	slices.Sort(found)
	return slices.Compact(found), nil
}
