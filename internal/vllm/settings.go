package vllm

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/sallyport/sallyport/models/demo"
)

// The variables that steer the stand-in. vLLM knows none of them.
const (
	envDelay   = "VLLM_STANDIN_DELAY"   // between the steps of loading, e.g. 200ms; default: none
	envPace    = "VLLM_STANDIN_PACE"    // before each event of an answer
	envPrefill = "VLLM_STANDIN_PREFILL" // of silence after an answer's header
	envFail    = "VLLM_STANDIN_FAIL"    // what goes wrong: one of failures
	envProbe   = "VLLM_STANDIN_PROBE"   // set: try to reach the network and tell; a host:port, or 1 for 203.0.113.10:80
	envVersion = "VLLM_STANDIN_VERSION" // what it says it is; default: defaultVersion
	envListen  = "VLLM_STANDIN_LISTEN"  // early: take connections while loading, and answer none
	envTurns   = "VLLM_STANDIN_TURNS"   // a JSON list of demo.Turn: what it answers
)

const (
	defaultVersion = "0.26.0"
	probeAddress   = "203.0.113.10:80" // RFC 5737
)

// What goes wrong, by envFail.
const (
	failOOM      = "oom"              // no memory while the weights are loaded
	failBusy     = "busy"             // another process has the memory
	failKVCache  = "kvcache"          // no memory left for the context
	failNoDevice = "nodevice"         // no GPU to be seen
	failNoGroup  = "nogroup"          // the GPU may not be opened
	failWeights  = "noweights"        // the folder has no weights
	failDies     = "dies-after-ready" // the engine dies at the first request
)

var failures = []string{failOOM, failBusy, failKVCache, failNoDevice, failNoGroup, failWeights, failDies}

// settings are the variables, read.
type settings struct {
	delay, pace, prefill time.Duration
	fail, probe, version string
	listenEarly          bool
	turns                []demo.Turn
}

func readSettings(getenv func(string) string) (settings, error) {
	s := settings{fail: getenv(envFail), probe: getenv(envProbe), version: getenv(envVersion), listenEarly: getenv(envListen) == "early"}
	for name, d := range map[string]*time.Duration{envDelay: &s.delay, envPace: &s.pace, envPrefill: &s.prefill} {
		if v := getenv(name); v != "" {
			var err error
			if *d, err = time.ParseDuration(v); err != nil {
				return s, fmt.Errorf("stand-in: %s: %w", name, err)
			}
		}
	}
	if s.fail != "" && !slices.Contains(failures, s.fail) {
		return s, fmt.Errorf("stand-in: %s=%q; hint: one of %q", envFail, s.fail, failures)
	}
	if s.probe == "1" {
		s.probe = probeAddress
	}
	if s.version == "" {
		s.version = defaultVersion
	}
	if v := getenv(envTurns); v != "" {
		if err := json.Unmarshal([]byte(v), &s.turns); err != nil {
			return s, fmt.Errorf("stand-in: %s: %w", envTurns, err)
		}
	}
	if len(s.turns) == 0 {
		s.turns = []demo.Turn{{Text: "This is a stand-in for vLLM, not a language model. "}}
	}
	return s, nil
}
