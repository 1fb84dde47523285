package models

// The sources that comments below name:
//
//	set-up   ttsiodras/utils localAI/*.sh @ 3cd8d10: the scripts that this program replaces
//	kyuz0    kyuz0/amd-strix-halo-vllm-toolboxes: scripts/start_vllm.py @ c8e1f87, scripts/models.py @ d86ff53
//	vLLM     vllm-project/vllm: docs/features/tool_calling.md @ 0064cc9, docs/serving/integrations/claude_code.md @ 0e49608
//	recipes  vllm-project/recipes @ 8959cf6

// safetensors returns the files of a model that vLLM reads. They are globs
// without "/", so what lies in folders of the repository stays there: gpt-oss has
// its weights three times (original/, metal/).
func safetensors() []string { return []string{"*.safetensors", "*.json", "*.jinja", "*.txt"} }

// All returns the known models, in the order in which to show them.
func All() []Profile {
	return []Profile{demoModel(), gptOSS120B(), gptOSS20B(), qwen3Next()}
}

func demoModel() Profile {
	return Profile{
		Name: "demo", Title: "stand-in: a script, not a language model",
		Model: "demo", Served: "demo", MaxContext: 131072, Engine: Demo,
	}
}

// gptOSS is what both sizes have in common.
func gptOSS() Profile {
	return Profile{
		MaxContext: 131072, // set-up: --max-model-len 131072
		Engine:     VLLM,
		Include:    safetensors(),
		// openai_harmony fetches its vocabulary otherwise: recipes OpenAI/GPT-OSS.md lines 457-466, vllm#22525.
		Encodings:       true,
		ToolParser:      "openai",        // vLLM tool_calling.md; recipes models/openai/gpt-oss-120b.yaml
		ReasoningParser: "openai_gptoss", // kyuz0 models.py
		MaxSeqs:         8,               // set-up: --max-num-seqs 8
		// kyuz0 passes --trust-remote-code; vLLM has the architecture itself, so nothing of the repository need run.
	}
}

func gptOSS120B() Profile {
	p := gptOSS()
	p.Name, p.Title = "gpt-oss-120b", "OpenAI gpt-oss 120B"
	p.Aliases = []string{"gpt-oss", "openai/gpt-oss-120b"}
	p.Model, p.Served = "openai/gpt-oss-120b", "gpt-oss-120b"
	p.Revision = "b5c939de8f754692c1647ca79fbf85e8c1e70f8a" // set-up: SNAP
	p.WeightsGB = 65                                        // model card: 63 GB of safetensors, and the tokenizer
	p.LlamaCPP = &GGUF{
		Repo:    "ggml-org/gpt-oss-120b-GGUF", // by llama.cpp's authors, MXFP4 as the original
		File:    "gpt-oss-120b-mxfp4-00001-of-00003.gguf",
		Include: []string{"gpt-oss-120b-mxfp4-*-of-00003.gguf"},
		GB:      64,
	}
	return p
}

func gptOSS20B() Profile {
	p := gptOSS()
	p.Name, p.Title = "gpt-oss-20b", "OpenAI gpt-oss 20B, for smaller GPUs"
	p.Aliases = []string{"openai/gpt-oss-20b"}
	p.Model, p.Served = "openai/gpt-oss-20b", "gpt-oss-20b"
	p.WeightsGB = 14
	p.LlamaCPP = &GGUF{Repo: "ggml-org/gpt-oss-20b-GGUF", File: "gpt-oss-20b-mxfp4.gguf", GB: 12}
	return p
}

func qwen3Next() Profile {
	return Profile{
		Name: "qwen3-next-80b", Title: "Qwen3-Next 80B A3B Instruct, GPTQ 4 bit",
		Aliases:    []string{"qwen3-next", "Qwen3-Next-80B-A3B", "dazipe/Qwen3-Next-80B-A3B-Instruct-GPTQ-Int4A16"},
		Model:      "dazipe/Qwen3-Next-80B-A3B-Instruct-GPTQ-Int4A16", // set-up
		Served:     "qwen3-next-80b",
		MaxContext: 262144, // set-up: --max-model-len 262144
		Engine:     VLLM,
		WeightsGB:  47, // of a comparable GPTQ (btbtyler09, group size 32); this one's size is not known
		// No *.py: vLLM and transformers have the architecture themselves (vLLM
		// vllm/model_executor/models/registry.py @ bf8e762: Qwen3NextForCausalLM;
		// transformers src/transformers/models/qwen3_next @ 249ef81), and the commit is
		// not pinned. Without such files --trust-remote-code has nothing to run; those
		// that another program put into the cache would run, in a server that has no
		// network and no files but its own folder and the cache, read-only.
		Include:    safetensors(),
		ToolParser: "hermes", // set-up; recipes models/Qwen/Qwen3-Next-80B-A3B-Instruct.yaml
		MaxSeqs:    8,        // set-up: --max-num-seqs 8
		// set-up: --enforce-eager --trust-remote-code; nobody documents this model on
		// gfx1151 without them. recipes have the latter for AMD alone.
		EnforceEager:    true,
		TrustRemoteCode: true,
		LlamaCPP: &GGUF{ // set-up at a later commit uses Q4_K_M
			Repo: "unsloth/Qwen3-Next-80B-A3B-Instruct-GGUF", File: "Qwen3-Next-80B-A3B-Instruct-Q4_K_M.gguf", GB: 49,
		},
	}
}
