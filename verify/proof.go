package verify

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

const (
	// proofMark begins the line that carries a proof on an agent container's
	// output, before the agent itself runs.
	proofMark = "sallyport-proof: "
	// maxProof bounds that line, in bytes.
	maxProof = 64 << 10
	// GoAhead is the line on the container's input that lets the agent start.
	GoAhead = "go\n"
)

// WriteProof prints results as one line.
func WriteProof(w io.Writer, results []Result) error {
	data, err := json.Marshal(results)
	if err != nil {
		return fmt.Errorf("encode the proof: %w", err)
	}
	_, err = fmt.Fprintf(w, "%s%s\n", proofMark, data)
	return err
}

// ReadProof reads the line that WriteProof printed, and nothing behind it. Other
// output in its place is an error that quotes it.
func ReadProof(r *bufio.Reader) ([]Result, error) {
	var line []byte
	for {
		b, err := r.ReadByte()
		if err != nil {
			return nil, fmt.Errorf("the container ended before its proof: %w%s", err, quoted(line))
		}
		if b == '\n' {
			break
		}
		if line = append(line, b); len(line) > maxProof {
			return nil, errors.New("the container's proof is too long")
		}
	}
	text, ok := strings.CutPrefix(strings.TrimSuffix(string(line), "\r"), proofMark)
	if !ok {
		return nil, fmt.Errorf("the container said something else instead of its proof%s", quoted(line))
	}
	var results []Result
	if err := json.Unmarshal([]byte(text), &results); err != nil {
		return nil, fmt.Errorf("decode the proof: %w", err)
	}
	return results, nil
}

func quoted(line []byte) string {
	if len(line) == 0 {
		return ""
	}
	return fmt.Sprintf(": %.500q", line)
}
