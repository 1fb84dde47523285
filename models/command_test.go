package models

import (
	"bufio"
	"os"
	"slices"
	"strings"
	"testing"
)

// place is a Strix Halo box as machine.Facts would tell it.
func place() Place {
	return Place{
		Folder: "/home/me/.cache/sallyport/models/m", Weights: "/home/me/.cache/huggingface", Binary: "/home/me/.cache/sallyport/bin/gateway-0123456789abcdef",
		Container: true, UID: 1000, GID: 1000, Hardware: StrixHalo, GroupIDs: []int{992, 44, 992},
		Devices: []string{"/dev/dri/card0", "/dev/dri/renderD128", "/dev/kfd"},
	}
}

// cited is a word of a command line or a variable, and where it comes from.
type cited struct{ words, source string }

const (
	setUp    = "ttsiodras/utils localAI/serve_gpt_oss_120b_vllm.sh @ 3cd8d10"
	setUpQ   = "ttsiodras/utils localAI/serve_Qwen3_Next_80B_A3B_Instruct_GPTQ_Int4A16_vllm.sh @ 3cd8d10"
	setUpL   = "ttsiodras/utils localAI/ @ c1e8be5"
	launcher = "kyuz0/amd-strix-halo-vllm-toolboxes scripts/start_vllm.py @ c8e1f87"
	kyuz0    = "kyuz0/amd-strix-halo-vllm-toolboxes scripts/models.py @ d86ff53"
	rocmEnv  = "kyuz0/amd-strix-halo-vllm-toolboxes scripts/01-rocm-env-for-triton.sh @ 4a22a7a"
	docker   = "kyuz0/amd-strix-halo-vllm-toolboxes scripts/run-ubuntu-docker-vllm.sh @ c93eb4f"
	parsers  = "vllm-project/vllm docs/features/tool_calling.md @ 0064cc9"
	claude   = "vllm-project/vllm docs/serving/integrations/claude_code.md @ 0e49608"
	cliArgs  = "vllm-project/vllm vllm/entrypoints/openai/cli_args.py @ 0052233"
	usage    = "vllm-project/vllm vllm/usage/usage_lib.py @ 01ff126"
	envs     = "vllm-project/vllm vllm/envs.py"
	recipe   = "vllm-project/recipes OpenAI/GPT-OSS.md @ 8959cf6, lines 457-466"
	recipeQ  = "vllm-project/recipes models/Qwen/Qwen3-Next-80B-A3B-Instruct.yaml @ 8959cf6"
	localAI  = "mudler/LocalAI#9229"
	own      = "ours"
	help     = "llama-server --help, testdata/llama-server-flags.txt"
)

var gptOSSCommand = []cited{
	{"vllm serve", cliArgs},
	{"/weights/hub/models--openai--gpt-oss-120b/snapshots/b5c939de8f754692c1647ca79fbf85e8c1e70f8a", setUp + ", SNAP"},
	{"--served-model-name gpt-oss-120b", claude},
	{"--uds /run/sallyport/model/server.sock", cliArgs},
	{"--tensor-parallel-size 1", setUp},
	{"--max-model-len 131072", setUp},
	{"--gpu-memory-utilization 0.90", launcher + ", not 0.95 as " + setUp},
	{"--dtype auto", setUp},
	{"--max-num-seqs 8", setUp},
	{"--enable-auto-tool-choice --tool-call-parser openai", parsers},
	{"--reasoning-parser openai_gptoss", kyuz0},
	{"--attention-backend TRITON_ATTN", launcher},
	{"--disable-uvicorn-access-log", cliArgs},
}

var qwenCommand = []cited{
	{"vllm serve", cliArgs},
	{"/weights/hub/models--dazipe--Qwen3-Next-80B-A3B-Instruct-GPTQ-Int4A16/snapshots/0123456789abcdef0123456789abcdef01234567", "the snapshot that the pull found"},
	{"--served-model-name qwen3-next-80b", claude},
	{"--uds /run/sallyport/model/server.sock", cliArgs},
	{"--tensor-parallel-size 1", setUpQ},
	{"--max-model-len 262144", setUpQ},
	{"--gpu-memory-utilization 0.90", launcher + ", not 0.95 as " + setUpQ},
	{"--dtype auto", setUpQ},
	{"--max-num-seqs 8", setUpQ},
	{"--trust-remote-code", setUpQ},
	{"--enforce-eager", setUpQ},
	{"--enable-auto-tool-choice --tool-call-parser hermes", setUpQ + "; " + recipeQ},
	{"--attention-backend TRITON_ATTN", launcher},
	{"--disable-uvicorn-access-log", cliArgs},
}

// commonEnv is the environment of both; that of gpt-oss has encodings besides.
var commonEnv = []cited{
	{"MASTER_ADDR=127.0.0.1", setUp}, {"MASTER_PORT=52335", setUp}, {"NCCL_SOCKET_IFNAME=lo", setUp}, {"GLOO_SOCKET_IFNAME=lo", setUp},
	{"NCCL_COMM_ID=127.0.0.1:52335", setUp}, {"NCCL_IB_DISABLE=1", setUp}, {"VLLM_HOST_IP=127.0.0.1", setUp}, {"HOST_IP=127.0.0.1", setUp},
	{"HF_HUB_OFFLINE=1", setUp}, {"TRANSFORMERS_OFFLINE=1", setUp}, {"HF_DATASETS_OFFLINE=1", setUp}, {"HF_HUB_DISABLE_TELEMETRY=1", setUp},
	{"TRANSFORMERS_NO_ADVISORY_WARNINGS=1", setUp}, {"HF_HUB_DISABLE_IMPLICIT_TOKEN=1", setUp},
	{"HF_HOME=/run/sallyport/model/home/.cache/huggingface", setUp}, {"HF_HUB_CACHE=/weights/hub", setUp},
	{"VLLM_NO_USAGE_STATS=1", usage}, {"DO_NOT_TRACK=1", usage}, {"VLLM_DO_NOT_TRACK=1", usage},
	{"VLLM_CACHE_ROOT=/run/sallyport/model/home/.cache/vllm", docker}, {"TRITON_CACHE_DIR=/run/sallyport/model/home/.cache/triton", launcher},
	{"VLLM_RPC_BASE_PATH=/run/sallyport/model", envs}, {"TORCHINDUCTOR_CACHE_DIR=/run/sallyport/model/home/.cache/torchinductor", own},
	{"HOME=/run/sallyport/model/home", own}, {"USER=sallyport", own}, {"LOGNAME=sallyport", own},
	{"XDG_CACHE_HOME=/run/sallyport/model/home/.cache", own}, {"XDG_CONFIG_HOME=/run/sallyport/model/home/.config", own},
	{"TORCH_ROCM_AOTRITON_ENABLE_EXPERIMENTAL=1", rocmEnv}, {"FLASH_ATTENTION_TRITON_AMD_ENABLE=TRUE", rocmEnv}, {"VLLM_TARGET_DEVICE=rocm", rocmEnv},
	{"VLLM_USE_TRITON_AWQ=1", rocmEnv}, {"MIOPEN_FIND_MODE=FAST", rocmEnv}, {"PYTHONNOUSERSITE=1", rocmEnv},
	{"HSA_OVERRIDE_GFX_VERSION=11.5.1", localAI}, {"ROCBLAS_USE_HIPBLASLT=1", localAI},
}

var encodings = []cited{
	{"TIKTOKEN_ENCODINGS_BASE=/weights/sallyport-encodings", recipe},
	{"TIKTOKEN_RS_CACHE_DIR=/run/sallyport/model/home/.cache/tiktoken-rs", "openai/harmony#46"},
}

func TestCommandsAreAsCited(t *testing.T) {
	qwenPlace := place()
	qwenPlace.Snapshot = qwenPlace.Weights + "/hub/models--dazipe--Qwen3-Next-80B-A3B-Instruct-GPTQ-Int4A16/snapshots/0123456789abcdef0123456789abcdef01234567"
	llamaPlace := place()
	llamaPlace.Snapshot = llamaPlace.Weights + "/hub/models--ggml-org--gpt-oss-120b-GGUF/snapshots/0123456789abcdef0123456789abcdef01234567"
	for _, c := range []struct {
		name    string
		o       Override
		pl      Place
		command []cited
		env     []cited
	}{
		{"gpt-oss-120b", Override{}, place(), gptOSSCommand, slices.Concat(commonEnv, encodings)},
		{"qwen3-next-80b", Override{}, qwenPlace, qwenCommand, commonEnv},
		{"gpt-oss-120b", Override{Engine: LlamaCPP}, llamaPlace, []cited{
			{"llama-server", help},
			{"-m /weights/hub/models--ggml-org--gpt-oss-120b-GGUF/snapshots/0123456789abcdef0123456789abcdef01234567/gpt-oss-120b-mxfp4-00001-of-00003.gguf", help},
			{"--alias gpt-oss-120b", help},
			{"--host /run/sallyport/model/server.sock", help},
			{"--ctx-size 131072", setUpL},
			{"-ngl 99", setUpL},
			{"-fa on", setUpL},
			{"--load-mode none", help + ", --no-mmap in " + setUpL},
			{"--jinja", setUpL},
			{"--offline", setUpL},
			{"--metrics", help},
		}, []cited{
			{"HOME=/run/sallyport/model/home", own}, {"USER=sallyport", own}, {"LOGNAME=sallyport", own},
			{"XDG_CACHE_HOME=/run/sallyport/model/home/.cache", own}, {"XDG_CONFIG_HOME=/run/sallyport/model/home/.config", own},
			{"LLAMA_CACHE=/run/sallyport/model/home/.cache/llama.cpp", own},
		}},
	} {
		p, _ := Resolve(c.name)
		l, err := Merge(p, c.o).Launch(c.pl)
		if err != nil {
			t.Fatal(err)
		}
		var argv, env []string
		for _, w := range c.command {
			argv = append(argv, strings.Fields(w.words)...)
		}
		for _, w := range c.env {
			env = append(env, w.words)
		}
		for _, w := range slices.Concat(c.command, c.env) {
			if w.source == "" {
				t.Errorf("%s: %s comes from nowhere", c.name, w.words)
			}
		}
		slices.Sort(env)
		if !slices.Equal(l.Argv, argv) {
			t.Errorf("%s %s:\ngot  %q\nwant %q", c.name, c.o.Engine, l.Argv, argv)
		}
		if !slices.Equal(l.Env, env) {
			t.Errorf("%s %s:\ngot  %q\nwant %q", c.name, c.o.Engine, l.Env, env)
		}
		if l.Placeholder {
			t.Errorf("%s: a placeholder", c.name)
		}
	}
}

// flagsOf reads the spellings of a data file's options.
func flagsOf(t *testing.T, file string) map[string]bool {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	flags := map[string]bool{}
	for s := bufio.NewScanner(f); s.Scan(); {
		line, _, _ := strings.Cut(s.Text(), "=")
		for _, word := range strings.Fields(line) {
			if strings.HasPrefix(line, "-") && strings.HasPrefix(word, "-") {
				flags[word] = true
			}
		}
	}
	if len(flags) < 100 {
		t.Fatalf("%s: %d options", file, len(flags))
	}
	return flags
}

// TestEveryOptionExists checks the options of every profile on all hardware.
func TestEveryOptionExists(t *testing.T) {
	lists := map[Engine]map[string]bool{
		VLLM:     flagsOf(t, "../internal/vllm/flags.txt"),
		LlamaCPP: flagsOf(t, "testdata/llama-server-flags.txt"),
	}
	for _, p := range All() {
		if p.StandIn() {
			continue
		}
		for engine, list := range lists {
			for _, h := range []Hardware{StrixHalo, CUDA, CPU} {
				for _, container := range []bool{true, false} {
					pl := place()
					pl.Hardware, pl.Container = h, container
					l, err := Merge(p, Override{Engine: engine, MaxSeqs: 3}).Launch(pl)
					if err != nil {
						t.Fatal(err)
					}
					for _, a := range l.Argv {
						if isOption(a) && !list[a] {
							t.Errorf("%s, %s, %s: there is no option %s", p.Name, engine, h, a)
						}
					}
					if slices.ContainsFunc(l.Env, func(e string) bool { return strings.HasPrefix(e, "VLLM_ROCM_USE_AITER") }) {
						t.Errorf("%s: VLLM_ROCM_USE_AITER is set", p.Name)
					}
					if container && l.Image == "" {
						t.Errorf("%s, %s, %s: no image", p.Name, engine, h)
					}
				}
			}
		}
	}
	data, err := os.ReadFile("../internal/vllm/flags.txt")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), "[tool-parsers]")
	tools, reasoning, _ := strings.Cut(rest, "[reasoning-parsers]")
	for _, p := range All() {
		if p.ToolParser != "" && !slices.Contains(strings.Fields(tools), p.ToolParser) || p.ReasoningParser != "" && !slices.Contains(strings.Fields(reasoning), p.ReasoningParser) {
			t.Errorf("%s: there is no parser %s or %s", p.Name, p.ToolParser, p.ReasoningParser)
		}
	}
	for name, others := range spellings {
		for _, s := range append(slices.Clone(others), name) {
			if !lists[VLLM][s] && !lists[LlamaCPP][s] {
				t.Errorf("spellings: there is no option %s", s)
			}
		}
	}
	for engine, names := range ours {
		for s := range names {
			if !lists[engine][s] {
				t.Errorf("%s: there is no option %s", engine, s)
			}
		}
	}
}
