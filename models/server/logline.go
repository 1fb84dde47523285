package server

import (
	"regexp"
	"strconv"
	"strings"
)

// mark is what one line of a log says of how far the server is.
type mark struct {
	stage   string
	text    string // empty: no more than the stage
	percent int    // -1: not said
}

// pattern is one kind of line. Wording drifts from version to version, so words
// are looked for anywhere in the line, whatever their case.
type pattern struct {
	words []string // each must be there, in lower case
	stage string
	say   func(line string) (text string, percent int) // nil: no more than the stage
}

// patterns are tried in this order. The lines are those of vLLM (its issues
// #22525, #38820, #20305 and kyuz0/amd-strix-halo-vllm-toolboxes #5 hold whole
// logs) and of llama.cpp's server (seen: 0.7.0 of Debian; older: its issues
// #15919, #18546).
var patterns = []pattern{
	// vLLM
	{[]string{"automatically detected platform"}, StageStart, nil},
	{[]string{"vllm api server version"}, StageStart, sayVersion},
	{[]string{"non-default args"}, StageStart, nil},
	{[]string{"initializing a v1 llm engine"}, StageStart, say("starting the engine")},
	{[]string{"checkpoint shards"}, StageWeights, sayShards},
	{[]string{"loading shards"}, StageWeights, sayShards},
	{[]string{"loading weights took"}, StageWeights, sayTook("weights loaded")},
	{[]string{"model loading took"}, StageWeights, sayTook("model loaded")},
	{[]string{"using model weights format"}, StageWeights, nil},
	{[]string{"starting to load model"}, StageWeights, nil},
	{[]string{"dynamo bytecode transform time"}, StageCompile, nil},
	{[]string{"torch.compile takes"}, StageCompile, sayTook("compiled")},
	{[]string{"torch.compile"}, StageCompile, nil},
	{[]string{"compiling a graph"}, StageCompile, nil},
	{[]string{"available kv cache memory"}, StageKVCache, nil},
	{[]string{"kv cache size", "tokens"}, StageKVCache, sayTokens},
	{[]string{"graph capturing finished"}, StageGraphs, sayTook("graphs captured")},
	{[]string{"capturing", "graph"}, StageGraphs, sayBar("capturing graphs")},
	{[]string{"init engine", "took"}, StageStartup, nil},
	{[]string{"available routes are"}, StageStartup, nil},
	{[]string{"starting vllm api server"}, StageStartup, nil},
	{[]string{"waiting for application startup"}, StageStartup, nil},
	{[]string{"application startup complete"}, StageStartup, sayDone},

	// llama.cpp; its older versions listen before they load
	{[]string{"http server is listening"}, StageStart, nil},
	{[]string{"llama_server: initializing"}, StageStart, nil},
	{[]string{"load_model: loading model"}, StageWeights, nil},
	{[]string{"llama_model_loader: loaded meta data"}, StageWeights, nil},
	{[]string{"load_tensors:"}, StageWeights, nil},
	{[]string{"llm_load_tensors:"}, StageWeights, nil},
	{[]string{"kv_cache", "size"}, StageKVCache, nil},
	{[]string{"kv self size"}, StageKVCache, nil},
	{[]string{"load_model: initializing", "slots"}, StageKVCache, nil},
	{[]string{"warming up the model"}, StageStartup, say("warming up")},
	{[]string{"llama_server: model loaded"}, StageStartup, sayDone},
	{[]string{"main: model loaded"}, StageStartup, sayDone},
	{[]string{"llama_server: listening on"}, StageStartup, sayDone},
	{[]string{"server is listening on"}, StageStartup, sayDone},
}

// failing are words of lines that tell of a failure, which may hold the words of
// a pattern too.
var failing = []string{"error", "traceback", "exception", "failed", "raise "}

// parseLine says what a line tells of the start; false: nothing. Its text is
// made of our own words and the line's numbers, never of the line itself.
func parseLine(line string) (mark, bool) {
	line = strings.ToLower(line[:min(len(line), maxLine)])
	for _, word := range failing {
		if strings.Contains(line, word) {
			return mark{}, false
		}
	}
	for _, p := range patterns {
		if !p.in(line) {
			continue
		}
		m := mark{stage: p.stage, percent: -1}
		if p.say != nil {
			m.text, m.percent = p.say(line)
		}
		return m, true
	}
	return mark{}, false
}

func (p pattern) in(line string) bool {
	for _, w := range p.words {
		if !strings.Contains(line, w) {
			return false
		}
	}
	return true
}

// The numbers that are taken out of lines; each is short.
var (
	percentOf = regexp.MustCompile(`\b([0-9]{1,3})%`)
	countOf   = regexp.MustCompile(`\b([0-9]{1,6})/([0-9]{1,6})\b`)
	secondsOf = regexp.MustCompile(`\b([0-9]{1,7})(?:\.[0-9]{1,9})? ?(?:s|secs?|seconds)\b`)
	sizeOf    = regexp.MustCompile(`\b([0-9]{1,7}(?:\.[0-9]{1,2})?)[0-9]* ?gi?b\b`)
	tokensOf  = regexp.MustCompile(`\b([0-9][0-9,]{0,15}) tokens\b`)
	versionOf = regexp.MustCompile(`version v?([0-9][0-9a-z.+_-]{0,30})`)
)

func say(text string) func(string) (string, int) {
	return func(string) (string, int) { return text, -1 }
}

func sayDone(string) (string, int) { return "started", 100 }

func sayVersion(line string) (string, int) {
	if m := versionOf.FindStringSubmatch(line); m != nil {
		return "starting vLLM " + m[1], -1
	}
	return "starting vLLM", -1
}

// sayShards reads "67% Completed | 2/3 [00:00<00:00, …]".
func sayShards(line string) (string, int) {
	text, percent := sayBar("loading weights")(line)
	if m := countOf.FindStringSubmatch(line); m != nil {
		text += ", shard " + m[1] + " of " + m[2]
	}
	return text, percent
}

func sayBar(text string) func(string) (string, int) {
	return func(line string) (string, int) {
		if m := percentOf.FindStringSubmatch(line); m != nil {
			if n, err := strconv.Atoi(m[1]); err == nil && n <= 100 {
				return text, n
			}
		}
		return text, -1
	}
}

// sayTook adds size and seconds, where the line has them. It ends its stage.
func sayTook(text string) func(string) (string, int) {
	return func(line string) (string, int) {
		said := text
		if m := sizeOf.FindStringSubmatch(line); m != nil {
			said += ", " + m[1] + " GiB"
		}
		if m := secondsOf.FindStringSubmatch(line); m != nil {
			said += ", " + m[1] + " s"
		}
		return said, 100
	}
}

func sayTokens(line string) (string, int) {
	if m := tokensOf.FindStringSubmatch(line); m != nil {
		return "KV cache for " + m[1] + " tokens", -1
	}
	return "", -1
}
