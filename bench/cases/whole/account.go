package whole

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/bench"
	"github.com/sallyport/sallyport/bench/field"
)

// account is what the record has of a sandbox: refused attempts by protocol, and
// numbers of lost ones.
type account map[string]int64

// accounted waits until the record has all that was made, and compares.
func accounted(ctx context.Context, f *field.Field, sandbox string, before account, made map[string]int64) (bench.Sample, error) {
	ctx, cancel := context.WithTimeout(ctx, accountTime)
	defer cancel()
	for {
		now, err := accounts(ctx, f, sandbox)
		if err != nil {
			return nil, err
		}
		missing := made["tcp"] + made["udp"]
		for what, n := range now {
			missing -= n - before[what]
		}
		if missing <= 0 {
			peak, err := peakMemory(ctx, f)
			return bench.Sample{"unaccounted": math.Abs(float64(missing)), "lost": float64(now["lost"] - before["lost"]), "memory": peak / 1e6}, err
		}
		if err := wait(ctx, 250*time.Millisecond); err != nil {
			return nil, fmt.Errorf("%d of %v attempts are not in the record: %w", missing, made, err)
		}
	}
}

// peakMemory is the most that gateway and lookout have had so far, in bytes.
func peakMemory(ctx context.Context, f *field.Field) (float64, error) {
	p, err := productOf(ctx, f)
	if err != nil {
		return 0, err
	}
	gateway, err := p.gateway.status("VmHWM")
	if err != nil {
		return 0, err
	}
	lookout, err := p.lookout.status("VmHWM")
	return float64(gateway + lookout), err
}

// accounts reads the record.
func accounts(ctx context.Context, f *field.Field, sandbox string) (account, error) {
	out, err := f.Lab.Laptop.Command(ctx, "gateway", "audit", "--json", "--sandbox", sandbox).Output()
	if err != nil {
		return nil, fmt.Errorf("read the record: %w", err)
	}
	sum := account{}
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e audit.Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return nil, fmt.Errorf("read the record: %w", err)
		}
		switch {
		case e.Agent == audit.AgentProof || e.Rule == "stray": // a late segment; what was made are connections
		case e.Lost > 0:
			sum["lost"] += e.Lost
		case e.Denied() && e.Port == floodPort:
			sum[e.Proto] += e.Count
		}
	}
	return sum, lines.Err()
}

// machineLoad is the processors' time so far: see proc(5), stat.
type machineLoad struct{ busy, all float64 }

// loadNow is zero where it cannot be read.
func loadNow() (l machineLoad) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return l
	}
	line, _, _ := strings.Cut(string(text), "\n")
	for i, field := range strings.Fields(line)[1:] {
		n, err := strconv.ParseFloat(field, 64)
		if err != nil || i > 7 { // guests' time is in user's
			break
		}
		l.all += n
		if i != 3 && i != 4 { // idle, iowait
			l.busy += n
		}
	}
	return l
}

// share is how busy the machine was since an earlier time, in percent.
func (l machineLoad) share(since machineLoad) float64 {
	if l.all <= since.all {
		return 0
	}
	return 100 * (l.busy - since.busy) / (l.all - since.all)
}
