package battery

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/sallyport/sallyport/verify/probe"
)

const (
	beside = 8                // probes that run at a time
	limit  = 20 * time.Second // for one probe; most need milliseconds
	// maxLine bounds a line of requests and answers, in bytes. Answers come from a
	// container, so their reader does not rely on it.
	maxLine = 1 << 20
)

// Request says which probes to run, and against what.
type Request struct {
	Target probe.Target `json:"target"`
	Probes []string     `json:"probes"` // names
	// Own has each probe's Own started first; probes without one are left out.
	Own bool `json:"own"`
}

// Answer is what became of one probe. The last one of a run has no Probe and is Done.
type Answer struct {
	Probe   string        `json:"probe,omitempty"`
	Finding probe.Finding `json:"finding"`
	Seconds float64       `json:"seconds"`
	Done    bool          `json:"done,omitempty"`
}

// Serve reads Requests from r, one a line of JSON, until its end, runs each, and writes
// an Answer a line to w.
func Serve(ctx context.Context, list []probe.Probe, r io.Reader, w io.Writer) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		var request Request
		if err := json.Unmarshal(lines.Bytes(), &request); err != nil {
			return fmt.Errorf("read the request: %w", err)
		}
		if err := serve(ctx, list, request, json.NewEncoder(w)); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read the request: %w", err)
	}
	return nil
}

func serve(ctx context.Context, list []probe.Probe, request Request, encoder *json.Encoder) error {
	var mu sync.Mutex
	var failed error
	emit := func(a Answer) {
		mu.Lock()
		defer mu.Unlock()
		failed = errors.Join(failed, encoder.Encode(a))
	}
	if err := Run(ctx, list, request, emit); err != nil {
		return err
	}
	emit(Answer{Done: true})
	return failed
}

// Run makes the attempts of a request: many at a time, then those that run alone.
// emit is called once for each, from several goroutines.
func Run(ctx context.Context, list []probe.Probe, request Request, emit func(Answer)) error {
	var alone []probe.Probe
	slots := make(chan struct{}, beside)
	var wait sync.WaitGroup
	for _, name := range request.Probes {
		p, ok := find(list, name)
		if name == Ended {
			p.Try = TryEnded
		}
		switch {
		case !ok || p.Try == nil:
			wait.Wait()
			return fmt.Errorf("there is no probe %q", name)
		case request.Own && p.Own == nil:
		case p.Alone || request.Own: // what two of them start might be in each other's way
			alone = append(alone, p)
		default:
			slots <- struct{}{}
			wait.Go(func() {
				emit(try(ctx, p, request))
				<-slots
			})
		}
	}
	wait.Wait()
	for _, p := range alone {
		emit(try(ctx, p, request))
	}
	return nil
}

func try(ctx context.Context, p probe.Probe, request Request) Answer {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	start := time.Now()
	target := request.Target
	answer := Answer{Probe: p.Name}
	if request.Own {
		if err := p.Own(ctx, &target); err != nil {
			answer.Finding = probe.Stopped(err, "start its own listener")
			return answer
		}
	}
	answer.Finding = p.Try(ctx, target)
	answer.Seconds = time.Since(start).Seconds()
	return answer
}

// maxAnswers bounds the bytes that ReadAnswers takes from a container.
const maxAnswers = 16 << 20

// ReadAnswers reads what Serve wrote until it is done; each is called as answers
// come, and may be nil. What a container says besides is an error.
func ReadAnswers(r io.Reader, each func(Answer)) (map[string]Answer, error) {
	answers := map[string]Answer{}
	lines := bufio.NewScanner(io.LimitReader(r, maxAnswers))
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		var a Answer
		if err := json.Unmarshal(lines.Bytes(), &a); err != nil {
			return answers, fmt.Errorf("the probes said %.200q: %w", lines.Bytes(), err)
		}
		if a.Done {
			return answers, nil
		}
		answers[a.Probe] = a
		if each != nil {
			each(a)
		}
	}
	return answers, errors.Join(errors.New("the probes ended before they were done"), lines.Err())
}
