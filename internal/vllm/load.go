package vllm

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// errStopped says that the context ended while the stand-in loaded.
var errStopped = errors.New("stopped while loading")

// step waits for the configured delay.
func (p *process) step(ctx context.Context) error {
	timer := time.NewTimer(p.settings.delay)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return errStopped
	case <-timer.C:
		return nil
	}
}

// load prints what vLLM prints while it loads, in its order: wording of 0.2x from
// vllm#38820, vllm#28052 and kyuz0/amd-strix-halo-vllm-toolboxes#73.
func (p *process) load(ctx context.Context) error {
	j := p.journal
	j.core("core.py:97", "Initializing a V1 LLM engine (v%s) with config: model='%s', max_seq_len=%d, served_model_name=%s (stand-in)", p.settings.version, p.options.model, p.maxContext(), p.served())
	if err := p.device(); err != nil {
		return err
	}
	for _, stage := range []func(context.Context) error{p.weights, p.compile, p.cache, p.graphs} {
		if err := p.step(ctx); err != nil {
			return err
		}
		if err := stage(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (p *process) weights(ctx context.Context) error {
	p.journal.core("gpu_model_runner.py:4879", "Starting to load model %s...", p.options.model)
	p.journal.core("weight_utils.py:392", "Using model weights format ['*.safetensors']")
	files, err := filepath.Glob(filepath.Join(p.options.model, "*.safetensors"))
	if err != nil || len(files) == 0 || p.settings.fail == failWeights {
		return failure{"EngineCore", "RuntimeError: Cannot find any model weights with `" + p.options.model + "`"} // default_loader.py
	}
	n := len(files)
	for i := 0; i <= n; i++ {
		p.journal.raw("\rLoading safetensors checkpoint shards: %3d%% Completed | %d/%d [00:%02d<00:%02d,  1.55s/it]", 100*i/n, i, n, min(i, 59), min(n-i, 59))
		if err := p.step(ctx); err != nil {
			return err
		}
		if p.settings.fail == failOOM && i > n/2 {
			p.journal.raw("\n")
			return outOfMemory()
		}
	}
	p.journal.raw("\n")
	p.journal.core("default_loader.py:384", "Loading weights took 24.84 seconds")
	p.journal.core("gpu_model_runner.py:4879", "Model loading took 62.66 GiB memory and 31.657031 seconds")
	return nil
}

func (p *process) compile(ctx context.Context) error {
	if p.options.on("--enforce-eager") {
		p.journal.core("vllm.py:1042", "Cudagraph is disabled under eager mode")
		return nil
	}
	p.journal.core("backends.py:1128", "Dynamo bytecode transform time: 3.54 s")
	if err := p.step(ctx); err != nil {
		return err
	}
	p.journal.core("backends.py:281", "Compiling a graph for dynamic shape takes 7.47 s")
	p.journal.core("monitor.py:34", "torch.compile takes 10.69 s in total")
	return nil
}

func (p *process) cache(context.Context) error {
	p.journal.core("gpu_worker.py:349", "Available KV cache memory: 18.38 GiB")
	if p.settings.fail == failKVCache {
		return noRoomForContext(p.maxContext())
	}
	p.journal.core("kv_cache_utils.py:1229", "GPU KV cache size: 610,816 tokens")
	p.journal.core("kv_cache_utils.py:1234", "Maximum concurrency for %d tokens per request: 4.66x", p.maxContext())
	return nil
}

func (p *process) graphs(ctx context.Context) error {
	if !p.options.on("--enforce-eager") {
		p.journal.raw("\rCapturing CUDA graphs (mixed prefill-decode, PIECEWISE):   0%%|          | 0/2 [00:00<?, ?it/s]")
		if err := p.step(ctx); err != nil {
			return err
		}
		p.journal.raw("\rCapturing CUDA graphs (mixed prefill-decode, PIECEWISE): 100%%|##########| 2/2 [00:00<00:00,  4.97it/s]\n")
		p.journal.core("gpu_model_runner.py:5820", "Graph capturing finished in 3 secs, took 0.42 GiB")
	}
	p.journal.core("core.py:215", "init engine (profile, create kv cache, warmup model) took 21.06 seconds")
	return nil
}

// findModel checks the model's folder as vLLM does with HF_HUB_OFFLINE: a path
// that is not there is taken for the name of a repository.
func (p *process) findModel() error {
	model := p.options.model
	if _, err := os.Stat(model); err != nil {
		if strings.HasPrefix(model, "/") || strings.Count(model, "/") > 1 {
			return failure{"APIServer", "huggingface_hub.errors.HFValidationError: Repo id must be in the form 'repo_name' or 'namespace/repo_name': '" + model + "'. Use `repo_type` argument if needed."}
		}
		return failure{"APIServer", "huggingface_hub.errors.LocalEntryNotFoundError: Cannot find an appropriate cached snapshot folder for the specified revision on the local disk and outgoing traffic has been disabled. To enable repo look-ups and downloads online, pass 'local_files_only=False' as input."}
	}
	if _, err := os.Stat(filepath.Join(model, "config.json")); err != nil {
		return failure{"APIServer", "ValueError: Invalid repository ID or local directory specified: '" + model + "'\nPlease verify the following requirements:\n1. Provide a valid Hugging Face repository ID.\n2. Specify a local directory that contains a recognized configuration file."}
	}
	return nil
}
