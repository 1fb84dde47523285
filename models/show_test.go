package models

import (
	"strings"
	"testing"
)

// TestStringSaysWhatTheEngineIsAsked has the options of containers.ServerSpec's
// hostConfig and config; containers/server_test.go asserts those.
func TestStringSaysWhatTheEngineIsAsked(t *testing.T) {
	const confined = " --cap-drop ALL --security-opt no-new-privileges:true --security-opt seccomp=unconfined" +
		" --read-only --tmpfs /tmp:rw,exec,nosuid,nodev,mode=1777,size=2048m --ipc host" +
		" --device /dev/dri/card0:/dev/dri/card0:rw --device /dev/dri/renderD128:/dev/dri/renderD128:rw --device /dev/kfd:/dev/kfd:rw"
	const mounts = " --mount type=bind,source=/home/me/.cache/sallyport/models/m,target=/run/sallyport/model,bind-propagation=private,bind-nonrecursive" +
		" --mount type=bind,source=/home/me/.cache/huggingface/hub,target=/weights/hub,readonly,bind-propagation=private,bind-nonrecursive" +
		" --mount type=bind,source=/home/me/.cache/sallyport/bin/gateway-0123456789abcdef,target=/run/sallyport/gateway,readonly,bind-propagation=private,bind-nonrecursive" +
		" --mount type=bind,source=/home/me/.cache/huggingface/sallyport-encodings,target=/weights/sallyport-encodings,readonly,bind-propagation=private,bind-nonrecursive"
	const log = " --no-healthcheck --log-driver json-file --log-opt max-size=20m"
	const rest = " --workdir /run/sallyport/model/home --entrypoint /run/sallyport/gateway docker.io/kyuz0/vllm-therock-gfx1151:stable" +
		" model-run --folder /run/sallyport/model -- vllm serve /weights/hub/models--openai--gpt-oss-120b/snapshots/"
	head := func(program, user string) string {
		return program + " run --detach --name sallyport-model-gpt-oss-120b-1000" +
			" --label dev.sallyport.role=server --label dev.sallyport.owner=1000 --label dev.sallyport.model=gpt-oss-120b" +
			" --network none --user " + user + confined
	}
	for _, c := range []struct {
		kind     string
		rootless bool
		head     string
		groups   string
		log      string
	}{
		{"", false, head("docker", "1000:1000"), " --group-add 44 --group-add 992", log + " --log-opt max-file=3"},
		{"docker", false, head("docker", "1000:1000"), " --group-add 44 --group-add 992", log + " --log-opt max-file=3"},
		{"docker", true, head("docker", "0:0"), "", log + " --log-opt max-file=3"},
		{"podman", false, head("podman", "1000:1000"), " --group-add 44 --group-add 992", log},
		{"podman", true, head("podman", "0:0"), " --group-add keep-groups", log},
	} {
		l, err := launch(t, "gpt-oss", Override{}, func(pl *Place) { pl.EngineKind, pl.Rootless = c.kind, c.rootless })
		if err != nil {
			t.Fatal(err)
		}
		got := strings.ReplaceAll(l.String(), " \\\n  ", " ")
		before, env, _ := strings.Cut(got, " --env ")
		if want := c.head + c.groups + mounts; before != want {
			t.Errorf("%s, rootless %v:\ngot  %s\nwant %s", c.kind, c.rootless, before, want)
		}
		if want := c.log + rest; !strings.Contains(env, want) {
			t.Errorf("%s, rootless %v:\ngot  %s\nwant %s", c.kind, c.rootless, env, want)
		}
	}
	for kind, want := range map[string]string{"docker": "--gpus all", "podman": "--device nvidia.com/gpu=all"} {
		l, err := launch(t, "gpt-oss", Override{}, func(pl *Place) { pl.EngineKind, pl.Hardware, pl.Devices = kind, CUDA, nil })
		if err != nil || !strings.Contains(l.String(), want) || !strings.Contains(l.String(), "--ipc private") || !strings.Contains(l.String(), "--shm-size 10240m") {
			t.Errorf("%s: %s, %v", kind, l, err)
		}
	}
}

// What the server is shown of the weights' folder holds no token of the login's,
// and the vocabulary only where it is used.
func TestServersSeeNoToken(t *testing.T) {
	for name, folders := range map[string]int{"gpt-oss": 2, "qwen3-next": 1} {
		for _, engine := range []Engine{VLLM, LlamaCPP} {
			l, err := launch(t, name, Override{Engine: engine}, nil)
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			for _, m := range l.Mounts {
				const weights = "/home/me/.cache/huggingface"
				if strings.HasPrefix(weights+"/token", m.Source+"/") || strings.HasPrefix(weights+"/stored_tokens", m.Source+"/") {
					t.Errorf("%s: %+v holds the login's tokens", name, m)
				}
				if strings.HasPrefix(m.Source, weights) {
					n++
				}
				if strings.HasPrefix(m.Source, weights) && !m.ReadOnly {
					t.Errorf("%s: %+v can be written", name, m)
				}
			}
			if engine == LlamaCPP {
				folders = 1
			}
			if n != folders {
				t.Errorf("%s, %s: %d folders of the weights, want %d: %+v", name, engine, n, folders, l.Mounts)
			}
		}
	}
}

// No code of a repository is fetched for a commit that is not pinned.
func TestNoCodeOfAnUnpinnedCommit(t *testing.T) {
	for _, p := range All() {
		for _, glob := range p.Include {
			if p.Revision == "" && strings.HasSuffix(glob, ".py") {
				t.Errorf("%s fetches %s of whatever main is", p.Name, glob)
			}
		}
	}
}
