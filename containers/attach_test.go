package containers

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
)

func TestAttachKeepsStreamsApartAndPassesTheEndOfInput(t *testing.T) {
	e := realEngine(t)
	spec := agent(t, e, "echo", "exit", "7")
	spec.Stdin = true
	id, err := e.CreateAgent(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	var out, errOut bytes.Buffer
	input := strings.Repeat("0123456789abcdef", 64<<10)
	s, err := e.Attach(t.Context(), id, AttachOptions{In: strings.NewReader(input), Out: &out, Err: &errOut})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Wait(); err != nil {
		t.Errorf("Wait: %v", err)
	}
	if exit, oom, err := e.Wait(t.Context(), id); exit != 7 || oom || err != nil {
		t.Errorf("Wait = %d, %v, %v; want 7", exit, oom, err)
	}
	if out.String() != input+"echo : ok\n" || errOut.String() != "to stderr\n" {
		t.Errorf("stdout has %d bytes, want %d; stderr %q", out.Len(), len(input)+10, &errOut)
	}
}

func TestAttachTerminal(t *testing.T) {
	e := realEngine(t)
	spec := agent(t, e, "size", "91", "17", "size", "123", "45", "exit", "3")
	spec.Stdin, spec.TTY = true, true
	id, err := e.CreateAgent(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	in, typed := io.Pipe()
	defer typed.Close()
	shown, out := io.Pipe()
	sizes := make(chan Size, 1)
	sizes <- Size{91, 17} // known before the container starts
	s, err := e.Attach(t.Context(), id, AttachOptions{In: in, Out: out, TTY: true, Resize: sizes})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, len("size 91 17: ok\r\n"))
	if _, err := io.ReadFull(shown, line); err != nil || string(line) != "size 91 17: ok\r\n" {
		t.Fatalf("shown: %q, %v", line, err)
	}
	sizes <- Size{123, 45}
	line = make([]byte, len("size 123 45: ok\r\n"))
	if _, err := io.ReadFull(shown, line); err != nil || string(line) != "size 123 45: ok\r\n" {
		t.Fatalf("shown: %q, %v", line, err)
	}
	if err := s.Wait(); err != nil {
		t.Errorf("Wait: %v", err)
	}
	if exit, _, err := e.Wait(t.Context(), id); exit != 3 || err != nil {
		t.Errorf("Wait = %d, %v; want 3", exit, err)
	}
}

func TestEndOfContextEndsTheSessionNotTheContainer(t *testing.T) {
	e := realEngine(t)
	id, err := e.CreateAgent(t.Context(), agent(t, e, "wait"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	shown, out := io.Pipe()
	s, err := e.Attach(ctx, id, AttachOptions{Out: out})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := shown.Read(make([]byte, 64)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := s.Wait(); err != nil {
		t.Errorf("Wait after the context's end: %v", err)
	}
	list, err := e.List(t.Context(), map[string]string{LabelOwner: owner(t), LabelRole: RoleAgent})
	if err != nil || len(list) != 1 || list[0].State != "running" {
		t.Errorf("agent: %+v, %v; want it running", list, err)
	}
}
