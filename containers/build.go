package containers

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed" // the agent's Dockerfile is part of the program: nothing to find at run time
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/client"
)

// ClaudeCodeVersion is the version of Claude Code that an agent image gets when
// BuildSpec names none. It is pinned here and nowhere else.
const ClaudeCodeVersion = "2.1.331"

// BaseImage is what agent images start from.
const BaseImage = "debian:12-slim"

//go:embed agent.Dockerfile
var agentDockerfile []byte

// ErrNoBase is returned by BuildAgent when the base image is neither here nor
// to be had from a registry.
var ErrNoBase = errors.New("base image " + BaseImage + " is not on this engine and no registry gave it\n" +
	"hint: `mmdebstrap --variant=minbase --include=ca-certificates bookworm - | docker import - " + BaseImage + "` makes it without a registry")

// BuildSpec says what agent image to build. UID, GID, Version and ExtraCA
// decide what is in the image and so its tag; the other fields only say how the
// building machine reaches its packages. None may hold a secret: what a build
// was given stays readable to whoever may use the engine.
type BuildSpec struct {
	UID, GID int    // the caller's; zero or less is refused
	Version  string // of Claude Code; empty: ClaudeCodeVersion
	ExtraCA  []byte // PEM certificates to trust besides Debian's, during the build and in the image; empty: none

	Network     string // the build's network: "default" or "host"; empty: "default"
	AptSources  string // replaces the base image's apt sources during the build (deb822 or one-line format); empty: kept
	AptConf     string // apt.conf text in force during the build; empty: none
	NpmRegistry string // URL; empty: npm's default

	Progress func(line string) // gets one line per step; nil: none
}

func (s BuildSpec) check() (BuildSpec, error) {
	if s.UID <= 0 || s.GID <= 0 {
		return s, fmt.Errorf("build agent image: uid %d, gid %d: an agent never runs as root", s.UID, s.GID)
	}
	if s.Version == "" {
		s.Version = ClaudeCodeVersion
	}
	if strings.Trim(s.Version, "0123456789abcdefghijklmnopqrstuvwxyz.-+") != "" {
		return s, fmt.Errorf("build agent image: %q is no version of Claude Code\nhint: write it as in %s", s.Version, ClaudeCodeVersion)
	}
	if s.Network != "" && s.Network != "default" && s.Network != "host" {
		return s, fmt.Errorf("build agent image: network %q: must be default or host", s.Network)
	}
	if s.Progress == nil {
		s.Progress = func(string) {}
	}
	return s, nil
}

// AgentTag returns the name of the image that BuildAgent makes of spec, without
// asking an engine.
func AgentTag(spec BuildSpec) (string, error) {
	spec, err := spec.check()
	if err != nil {
		return "", err
	}
	h := sha256.New()
	for _, part := range [][]byte{agentDockerfile, []byte(strconv.Itoa(spec.UID)), []byte(strconv.Itoa(spec.GID)), []byte(spec.Version), spec.ExtraCA} {
		fmt.Fprintf(h, "%d\n", len(part))
		h.Write(part)
	}
	return "sallyport/agent-claude:" + hex.EncodeToString(h.Sum(nil))[:16], nil
}

// BuildAgent makes the agent's image and returns its name, at once when the
// engine has it already. It uses the engine's classic builder: no buildkit.
func (e *Engine) BuildAgent(ctx context.Context, spec BuildSpec) (string, error) {
	spec, err := spec.check()
	if err != nil {
		return "", err
	}
	tag, err := AgentTag(spec)
	if err != nil {
		return "", err
	}
	have, err := e.ImageExists(ctx, tag)
	if err != nil || have {
		return tag, err
	}
	haveBase, err := e.ImageExists(ctx, BaseImage)
	if err != nil {
		return "", err
	}
	files, err := buildContext(spec)
	if err != nil {
		return "", err
	}
	res, err := e.api.ImageBuild(ctx, files, buildOptions(spec, tag))
	if err != nil {
		return "", fmt.Errorf("build agent image %s: %w", tag, err)
	}
	defer res.Body.Close()
	report := &buildReport{progress: spec.Progress}
	if err := report.read(res.Body); err != nil {
		if !haveBase && report.step <= 1 {
			return "", fmt.Errorf("build agent image: %w (%w)", ErrNoBase, err)
		}
		return "", fmt.Errorf("build agent image %s: %w", tag, err)
	}
	return tag, nil
}

func buildOptions(spec BuildSpec, tag string) client.ImageBuildOptions {
	uid, gid := strconv.Itoa(spec.UID), strconv.Itoa(spec.GID)
	return client.ImageBuildOptions{
		Tags:        []string{tag},
		Dockerfile:  "Dockerfile",
		Version:     build.BuilderV1,
		NetworkMode: spec.Network,
		Remove:      true,
		ForceRemove: true,
		BuildArgs:   map[string]*string{"UID": &uid, "GID": &gid, "CLAUDE_CODE_VERSION": &spec.Version},
	}
}

// buildContext returns the tar that the build starts from.
func buildContext(spec BuildSpec) (*bytes.Buffer, error) {
	files := []tarFile{{name: "Dockerfile", data: agentDockerfile}, {name: "inputs/", mode: 0o755}}
	if spec.AptSources != "" {
		name := "inputs/apt.list"
		if strings.Contains(spec.AptSources, "URIs:") {
			name = "inputs/apt.sources"
		}
		files = append(files, tarFile{name: name, data: []byte(spec.AptSources)})
	}
	if spec.AptConf != "" {
		files = append(files, tarFile{name: "inputs/apt.conf", data: []byte(spec.AptConf)})
	}
	if spec.NpmRegistry != "" {
		files = append(files, tarFile{name: "inputs/npm.registry", data: []byte(spec.NpmRegistry)})
	}
	if len(spec.ExtraCA) > 0 {
		certs, err := splitCertificates(spec.ExtraCA)
		if err != nil {
			return nil, err
		}
		files = append(files, tarFile{name: "inputs/ca.pem", data: spec.ExtraCA}, tarFile{name: "inputs/ca/", mode: 0o755})
		for i, cert := range certs {
			files = append(files, tarFile{name: fmt.Sprintf("inputs/ca/sallyport-%03d.crt", i), data: cert})
		}
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, f := range files {
		if err := f.write(w); err != nil {
			return nil, fmt.Errorf("pack the agent image's build context: %w", err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("pack the agent image's build context: %w", err)
	}
	return &buf, nil
}

// splitCertificates returns each certificate of bundle by itself, as
// update-ca-certificates wants them.
func splitCertificates(bundle []byte) ([][]byte, error) {
	var certs [][]byte
	for rest := bundle; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("extra CA bundle: it holds a %q\nhint: only certificates belong there", block.Type)
		}
		certs = append(certs, pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes}))
	}
	if len(certs) == 0 {
		return nil, errors.New("extra CA bundle: no certificate in it\nhint: it must be in PEM format")
	}
	return certs, nil
}
