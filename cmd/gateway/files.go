package main

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/sallyport/sallyport/config"
)

// secretFile returns the secret kept at path, and makes one the first time.
func secretFile(path string) (string, error) {
	data, err := os.ReadFile(path)
	if secret := strings.TrimSpace(string(data)); err == nil && len(secret) >= 32 {
		return secret, nil
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("read a secret: %w", err)
	}
	secret := rand.Text() + rand.Text()
	if err := os.WriteFile(path, []byte(secret+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("keep a secret: %w", err)
	}
	return secret, nil
}

// ownHash is the SHA-256 of this executable: launcher compares it with the
// gateway that it would start.
func ownHash() (string, error) {
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		return "", fmt.Errorf("read our own binary: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("read our own binary: %w", err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// loadConfig reads the configuration; open reads its file, nil: os.Open.
func loadConfig(p process, file string, open func(string) (io.ReadCloser, error)) (*config.Config, error) {
	if file != "" {
		path, err := filepath.Abs(file)
		if err != nil {
			return nil, fmt.Errorf("find the configuration: %w", err)
		}
		file = path
	}
	return config.Load(config.Options{Path: file, Environ: p.lookupenv, Home: p.getenv("HOME"), Open: open})
}
