package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxAnswer bounds an answer, in bytes.
const maxAnswer = 4 << 10

// asker asks questions, one at a time.
type asker struct {
	in  *bufio.Reader
	out io.Writer
}

func newAsker(in io.Reader, out io.Writer) *asker {
	return &asker{bufio.NewReaderSize(in, maxAnswer), out}
}

// errNoAnswer says that the input ended before the questions did.
var errNoAnswer = usage(errors.New("the input ended before the questions did: nothing was written; hint: launcher init --host local|DESTINATION --model NAME --yes asks none"))

// line asks for one line. The goroutine that reads it ends with the line: after
// ctx has ended, nobody may ask any more.
func (a *asker) line(ctx context.Context, prompt string) (string, error) {
	fmt.Fprint(a.out, prompt)
	type result struct {
		line string
		err  error
	}
	read := make(chan result, 1)
	go func() {
		line, err := a.read()
		read <- result{line, err}
	}()
	select {
	case r := <-read:
		return r.line, r.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// read reads a line without its end. What is longer than any answer is cut.
func (a *asker) read() (string, error) {
	line, err := a.in.ReadSlice('\n')
	text := string(line)
	for errors.Is(err, bufio.ErrBufferFull) {
		_, err = a.in.ReadSlice('\n')
	}
	switch {
	case err == nil, errors.Is(err, io.EOF) && text != "":
		return strings.TrimRight(text, "\r\n"), nil
	case errors.Is(err, io.EOF):
		fmt.Fprintln(a.out)
		return "", errNoAnswer
	}
	return "", fmt.Errorf("read the answer: %w", err)
}

// confirm asks a question that is answered by yes or no. usual is what an empty
// answer means.
func (a *asker) confirm(ctx context.Context, question string, usual bool) (bool, error) {
	choice := " [y/N] "
	if usual {
		choice = " [Y/n] "
	}
	for {
		answer, err := a.line(ctx, question+choice)
		if err != nil {
			return false, err
		}
		switch strings.ToLower(strings.TrimSpace(answer)) {
		case "y", "yes":
			return true, nil
		case "n", "no":
			return false, nil
		case "":
			return usual, nil
		}
		fmt.Fprintln(a.out, "  please answer yes or no")
	}
}
