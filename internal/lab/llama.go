package lab

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// llamaStart bounds the start of llama.cpp's server with the tiny model.
const llamaStart = 60 * time.Second

// Llama is llama.cpp's server, with no network at all, on a socket of the GPU
// host. Its model is tiny and random: the server, its API and its streaming are
// the real thing, what it says is not.
type Llama struct {
	Socket string // on the GPU host
	Name   string // of the model that it serves

	cmd *Cmd
}

// Llama starts the server and waits until it is healthy. It ends with Stop, with
// ctx, or with the lab.
func (l *Lab) Llama(ctx context.Context) (*Llama, error) {
	g := l.GPUHost
	weights, err := TinyModel(ctx)
	if err == nil {
		err = os.WriteFile(g.Outside(ModelDir+"/tiny.gguf"), weights, 0o644)
	}
	if err != nil {
		return nil, fmt.Errorf("lab: the tiny model: %w", err)
	}
	s := &Llama{Socket: ModelDir + "/llama.sock", Name: "gpt-oss"}
	_ = os.Remove(g.Outside(s.Socket)) // an earlier one's
	log, err := os.Create(filepath.Join(l.Dir(), "llama.log"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	s.cmd = g.Command(ctx, "llama-server", "-m", ModelDir+"/tiny.gguf", "--host", s.Socket,
		"--alias", s.Name, "--offline", "--jinja", "-c", "65536", "--threads", "2")
	s.cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWNET
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	if err := s.healthy(ctx, g); err != nil {
		return nil, errors.Join(fmt.Errorf("lab: llama-server: %w; the end of its log:\n%s", err, tail(log.Name())), s.Stop())
	}
	return s, nil
}

// TinyModel is a GGUF of the llama architecture with random weights, made when the
// cache has none.
func TinyModel(ctx context.Context) ([]byte, error) {
	path := filepath.Join(cacheDir(), "tiny.gguf")
	if _, err := script(ctx, "lab-model", path, cacheDir()); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
}

func (s *Llama) healthy(ctx context.Context, g *GPUHost) error {
	ctx, cancel := context.WithTimeout(ctx, llamaStart)
	defer cancel()
	// Each question comes on its own connection, so that none stays.
	client := &http.Client{Transport: &http.Transport{DialContext: g.DialSocket(s.Socket), DisableKeepAlives: true}}
	return until(ctx, func() error {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://llama/health", nil)
		if err != nil {
			return err
		}
		answer, err := client.Do(r)
		if err != nil {
			return err
		}
		if answer.StatusCode != http.StatusOK {
			err = errors.New(answer.Status)
		}
		return errors.Join(err, answer.Body.Close())
	})
}

// Stop ends the server.
func (s *Llama) Stop() error {
	err := s.cmd.Process.Kill()
	_ = s.cmd.Wait() // killed
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}
