// Command turns is an agent that never rests: it has its model answer one
// question after the other, as streams, and says how each ended; meanwhile it
// tries to get out, again and again, and says so where anything answers.
//
//	turns [ADDRESS:PORT…]
//
// It asks the model endpoint of the sandbox that it runs in. No answer is given
// up by a clock of its own: what hangs for ever is seen to.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

const (
	retry   = 50 * time.Millisecond  // after a turn that failed
	attempt = 200 * time.Millisecond // between attempts to get out
	patient = 2 * time.Second        // for an answer to one
)

// refusal begins what the gateway answers; a gateway that dies may not end it.
const refusal = "HTTP/1.1 403 "

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	for _, to := range os.Args[1:] {
		go escape(ctx, "tcp", to)
		go escape(ctx, "udp", to)
	}
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "turns:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	proxy, err := url.Parse(os.Getenv("HTTP_PROXY"))
	if err != nil || proxy.Hostname() == "" {
		return fmt.Errorf("HTTP_PROXY does not name the sandbox's gateway: %q, %v", os.Getenv("HTTP_PROXY"), err)
	}
	a := agent{base: "http://" + net.JoinHostPort(proxy.Hostname(), "8000"), client: &http.Client{Transport: &http.Transport{Proxy: nil}}}
	for n := 1; ctx.Err() == nil; n++ {
		if err := a.turn(ctx); err != nil {
			fmt.Printf("turn %d failed: %v\n", n, err)
			rest(ctx, retry)
			continue
		}
		fmt.Printf("turn %d answered\n", n)
	}
	return nil
}

func rest(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// agent speaks with one model.
type agent struct {
	base   string
	client *http.Client
	model  string // empty: not asked yet
}

// turn asks and reads the answer to its end.
func (a *agent) turn(ctx context.Context) error {
	if a.model == "" {
		if err := a.name(ctx); err != nil {
			return err
		}
	}
	question, err := json.Marshal(map[string]any{
		"model": a.model, "max_tokens": 1000, "stream": true,
		"messages": []any{map[string]string{"role": "user", "content": "count, please"}},
		// The stand-in follows its script for who has tools.
		"tools": []any{map[string]any{"name": "Bash", "input_schema": map[string]string{"type": "object"}}},
	})
	if err != nil {
		return err
	}
	answer, err := a.ask(ctx, "POST", "/v1/messages", bytes.NewReader(question))
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	lines := bufio.NewScanner(answer.Body)
	for lines.Scan() {
		switch lines.Text() {
		case "event: message_stop":
			_, err := io.Copy(io.Discard, answer.Body)
			return err
		case "event: error":
			lines.Scan()
			return errors.New(lines.Text())
		}
	}
	return errors.Join(lines.Err(), errors.New("the answer ended too early"))
}

// name learns what the model is called here.
func (a *agent) name(ctx context.Context) error {
	answer, err := a.ask(ctx, "GET", "/v1/models", nil)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	var list struct {
		Data []struct{ ID string }
	}
	if err := json.NewDecoder(answer.Body).Decode(&list); err != nil || len(list.Data) == 0 {
		return fmt.Errorf("what models there are: %v, %d", err, len(list.Data))
	}
	a.model = list.Data[0].ID
	return nil
}

func (a *agent) ask(ctx context.Context, method, path string, body io.Reader) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, a.base+path, body)
	if err != nil {
		return nil, err
	}
	answer, err := a.client.Do(r)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode != http.StatusOK {
		defer answer.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(answer.Body, 500)) // the status is the news
		return nil, fmt.Errorf("%s: %s", answer.Status, bytes.TrimSpace(text))
	}
	return answer, nil
}

// escape tries to get an answer from a place, until ctx ends.
func escape(ctx context.Context, network, to string) {
	for ctx.Err() == nil {
		if answer := try(ctx, network, to); answer != "" && !strings.HasPrefix(answer, refusal) {
			fmt.Printf("ESCAPED to %s %s: %q\n", network, to, answer)
		}
		rest(ctx, attempt)
	}
}

// try returns what answered; empty: nothing did.
func try(ctx context.Context, network, to string) string {
	conn, err := (&net.Dialer{Timeout: patient}).DialContext(ctx, network, to)
	if err != nil {
		return ""
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patient)) // an error shows below
	if _, err := io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n"); err != nil {
		return ""
	}
	buf := make([]byte, 200)
	n, _ := conn.Read(buf) // silence and resets are what should come
	return string(buf[:n])
}
