package vllm

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// journal writes vLLM's log: its own lines and the workers' on standard output,
// uvicorn's and tqdm's on standard error.
type journal struct {
	mu             sync.Mutex
	stdout, stderr io.Writer
	now            func() time.Time
	pid            int
}

// line writes one of vLLM's lines as its default formatter does.
func (j *journal) line(process, level, place, format string, a ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	fmt.Fprintf(j.stdout, "(%s pid=%d) %s %s [%s] %s\n", process, j.pid, level, j.now().Format("01-02 15:04:05"), place, fmt.Sprintf(format, a...))
}

func (j *journal) api(place, format string, a ...any) {
	j.line("APIServer", "INFO", place, format, a...)
}

func (j *journal) core(place, format string, a ...any) {
	j.line("EngineCore", "INFO", place, format, a...)
}

// failed writes a line of a worker's traceback.
func (j *journal) failed(place, format string, a ...any) {
	j.line("EngineCore", "ERROR", place, format, a...)
}

// raw writes to standard error as it is.
func (j *journal) raw(format string, a ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	fmt.Fprintf(j.stderr, format, a...)
}

// said writes a line of the stand-in itself, which no vLLM writes.
func (j *journal) said(format string, a ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	fmt.Fprintf(j.stdout, "stand-in: "+format+"\n", a...)
}
