package load

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// Request is a line that a worker reads.
type Request struct {
	ID  int             `json:"id"` // of the answer too
	Job string          `json:"job"`
	Arg json.RawMessage `json:"arg"`
}

// Answer is a line that a worker prints for each request.
type Answer struct {
	ID    int             `json:"id"`
	Error string          `json:"error,omitempty"` // empty: it succeeded
	Value json.RawMessage `json:"value,omitempty"`
}

// Ready is the ID of the answer that a worker prints before it reads anything; its
// value is a Hello.
const Ready = -1

// Hello is what a worker says of the place where it runs.
type Hello struct {
	Nameserver string `json:"nameserver"` // the first of resolv.conf(5); empty: none
}

// Work does jobs from r, one at a time, and prints an answer for each on w. It ends
// when r or ctx does.
func Work(ctx context.Context, r io.Reader, w io.Writer) error {
	out := json.NewEncoder(w)
	hello, err := json.Marshal(Hello{Nameserver: nameserver()})
	if err != nil {
		return err
	}
	if err := out.Encode(Answer{ID: Ready, Value: hello}); err != nil {
		return fmt.Errorf("say that the worker is ready: %w", err)
	}
	in := json.NewDecoder(bufio.NewReader(r))
	for {
		var req Request
		err := in.Decode(&req)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read a job: %w", err)
		}
		if err := out.Encode(do(ctx, req)); err != nil {
			return fmt.Errorf("answer a job: %w", err)
		}
	}
}

func do(ctx context.Context, req Request) Answer {
	job, ok := jobs[req.Job]
	if !ok {
		return Answer{ID: req.ID, Error: fmt.Sprintf("there is no job %q", req.Job)}
	}
	value, err := job(ctx, req.Arg)
	if err != nil {
		return Answer{ID: req.ID, Error: err.Error()}
	}
	text, err := json.Marshal(value)
	if err != nil {
		return Answer{ID: req.ID, Error: fmt.Sprintf("the answer of %s: %v", req.Job, err)}
	}
	return Answer{ID: req.ID, Value: text}
}

// nameserver is the first that a resolver would ask.
func nameserver() string {
	text, err := os.ReadFile("/etc/resolv.conf")
	if err != nil {
		return "" // an image need not have one
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "nameserver" {
			return fields[1]
		}
	}
	return ""
}

// strict decodes all of raw; unknown fields are errors.
func strict(raw json.RawMessage, into any) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	return d.Decode(into)
}
