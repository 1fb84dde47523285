package models

import "strconv"

// vllmArguments is the command line of `vllm serve`, without its first two words.
// The sources are those of profiles.go, and cli_args.py: vLLM's
// vllm/entrypoints/openai/cli_args.py @ 0052233.
func (p Profile) vllmArguments(pre preset, snapshot, socket string) []option {
	o := []option{
		{snapshot, ""},                    // a folder: set-up's SNAP; nothing is left to look up by name
		{"--served-model-name", p.Served}, // vLLM claude_code.md: a name without "/"
		{"--uds", socket},                 // cli_args.py: "If set, host and port arguments are ignored"
		{"--tensor-parallel-size", "1"},   // set-up
	}
	if p.MaxContext > 0 {
		o = append(o, option{"--max-model-len", strconv.Itoa(p.MaxContext)}) // set-up
	}
	memory := p.GPUMemory
	if memory == 0 {
		memory = pre.gpuMemory
	}
	if memory > 0 {
		o = append(o, option{"--gpu-memory-utilization", strconv.FormatFloat(memory, 'f', 2, 64)}) // kyuz0 start_vllm.py
	}
	o = append(o, option{"--dtype", "auto"}) // set-up
	if p.MaxSeqs > 0 {
		o = append(o, option{"--max-num-seqs", strconv.Itoa(p.MaxSeqs)}) // set-up
	}
	if p.TrustRemoteCode {
		o = append(o, option{"--trust-remote-code", ""}) // set-up
	}
	if p.EnforceEager {
		o = append(o, option{"--enforce-eager", ""}) // set-up
	}
	if p.ToolParser != "" {
		o = append(o, option{"--enable-auto-tool-choice", ""}, option{"--tool-call-parser", p.ToolParser}) // vLLM tool_calling.md
	}
	if p.ReasoningParser != "" {
		o = append(o, option{"--reasoning-parser", p.ReasoningParser}) // kyuz0 models.py
	}
	o = append(o, pre.args[VLLM]...)
	return append(o, option{"--disable-uvicorn-access-log", ""}) // cli_args.py: /health is asked all the time
}

// vllmEnv is the server's environment: no network but lo, nothing looked up,
// nothing told to anybody, and every cache in its own home.
func (p Profile) vllmEnv(at paths) []string {
	env := []string{
		// set-up: one process on one host; NCCL, Gloo and vLLM itself talk over lo.
		"MASTER_ADDR=127.0.0.1", "MASTER_PORT=52335", "NCCL_SOCKET_IFNAME=lo", "GLOO_SOCKET_IFNAME=lo",
		"NCCL_COMM_ID=127.0.0.1:52335", "NCCL_IB_DISABLE=1", "VLLM_HOST_IP=127.0.0.1", "HOST_IP=127.0.0.1",
		// set-up: offline.
		"HF_HUB_OFFLINE=1", "TRANSFORMERS_OFFLINE=1", "HF_DATASETS_OFFLINE=1",
		"HF_HUB_DISABLE_TELEMETRY=1", "TRANSFORMERS_NO_ADVISORY_WARNINGS=1", "HF_HUB_DISABLE_IMPLICIT_TOKEN=1",
		// vLLM usage/usage_lib.py @ 01ff126: statistics at the start and every ten minutes.
		"VLLM_NO_USAGE_STATS=1", "DO_NOT_TRACK=1", "VLLM_DO_NOT_TRACK=1",
		// set-up has both in ~/.cache/huggingface. HF_HOME is written to (modules of TrustRemoteCode), the weights are not.
		"HF_HOME=" + at.home + "/.cache/huggingface", "HF_HUB_CACHE=" + at.weights + hubFolder,
		"VLLM_CACHE_ROOT=" + at.home + "/.cache/vllm",    // kyuz0 docker
		"TRITON_CACHE_DIR=" + at.home + "/.cache/triton", // kyuz0 start_vllm.py
		// Its default asks for the user's name, which an image does not know by a uid from outside.
		"TORCHINDUCTOR_CACHE_DIR=" + at.home + "/.cache/torchinductor",
		// vLLM envs.py: default is the folder for temporary files, where others may reach the engine's sockets.
		"VLLM_RPC_BASE_PATH=" + at.folder,
	}
	if p.Encodings {
		env = append(env,
			"TIKTOKEN_ENCODINGS_BASE="+at.weights+encodingsFolder,  // recipes OpenAI/GPT-OSS.md lines 457-466
			"TIKTOKEN_RS_CACHE_DIR="+at.home+"/.cache/tiktoken-rs", // openai/harmony#46
		)
	}
	return env
}
