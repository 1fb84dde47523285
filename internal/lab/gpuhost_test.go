//go:build lab

package lab_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/sallyport/sallyport/internal/lab"
)

// askModel asks the model on the GPU host as a client with the user's files would,
// over SSH from the laptop.
func askModel(ctx context.Context, l *lab.Lab, path string) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	private, err := os.ReadFile(filepath.Join(l.Laptop.Home, ".ssh/id_ed25519"))
	if err != nil {
		return err
	}
	signer, err := ssh.ParsePrivateKey(private)
	if err != nil {
		return err
	}
	known, err := knownhosts.New(filepath.Join(l.Laptop.Home, ".ssh/known_hosts"))
	if err != nil {
		return err
	}
	address := net.JoinHostPort(lab.GPUHostLAN, "22")
	conn, err := l.Laptop.Dial(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	c, chans, reqs, err := ssh.NewClientConn(conn, address, &ssh.ClientConfig{
		User: lab.UserName, Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: known,
	})
	if err != nil {
		return err
	}
	client := ssh.NewClient(c, chans, reqs)
	defer client.Close()
	web := &http.Client{Transport: &http.Transport{
		DialContext:       func(context.Context, string, string) (net.Conn, error) { return client.Dial("unix", path) },
		DisableKeepAlives: true,
	}}
	answer, err := web.Get("http://model/")
	if err != nil {
		return err
	}
	body, err := io.ReadAll(answer.Body)
	if string(body) != "model here" {
		err = errors.Join(err, fmt.Errorf("the model said %q", body))
	}
	return errors.Join(err, answer.Body.Close())
}

func TestSSHToModel(t *testing.T) {
	onBoth(t, func(t *testing.T, l *lab.Lab) {
		ctx := t.Context()
		path := l.GPUHost.ServeModel(t, "hello.sock", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "model here")
		}))
		ask := func() error { return askModel(ctx, l, path) }
		if err := ask(); err != nil {
			t.Fatalf("%v\n%s", err, l.GPUHost.SSHLog())
		}
		if err := l.GPUHost.StopSSH(); err != nil {
			t.Fatal(err)
		}
		if ask() == nil {
			t.Error("sshd answers after its end")
		}
		if err := l.GPUHost.StartSSH(ctx); err != nil {
			t.Fatal(err)
		}
		if err := l.SetLAN(ctx, false); err != nil {
			t.Fatal(err)
		}
		if ask() == nil {
			t.Error("the GPU host answers without a link")
		}
		if err := l.SetLAN(ctx, true); err != nil {
			t.Fatal(err)
		}
		if err := ask(); err != nil {
			t.Errorf("after the link came back: %v", err)
		}
	})
}

func TestLlama(t *testing.T) {
	l := shared.Get(t, lab.Engine28)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s, err := l.Llama(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	}()
	client := &http.Client{Transport: &http.Transport{DialContext: l.GPUHost.DialSocket(s.Socket), DisableKeepAlives: true}}
	const body = `{"model":"gpt-oss","max_tokens":8,"stream":true,"messages":[{"role":"user","content":"hello"}]}`
	answer, err := client.Post("http://llama/v1/messages", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	events, err := io.ReadAll(answer.Body)
	if err := errors.Join(err, answer.Body.Close()); err != nil {
		t.Fatal(err)
	}
	for _, event := range []string{"event: message_start", "event: content_block_delta", "event: message_stop"} {
		if !strings.Contains(string(events), event) {
			t.Errorf("no %q in the stream:\n%s", event, events)
		}
	}
}
