package verify

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Started returns when a process was started, in clock ticks since the machine was
// (field 22 of /proc/PID/stat). Together with its number, it names a process.
func Started(pid int) (uint64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	return parseStarted(string(text))
}

func parseStarted(stat string) (uint64, error) {
	const afterName = 22 - 3 // the second field is a name in parentheses, and holds what it likes
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) <= afterName {
		return 0, fmt.Errorf("stat of a process has %d fields after the name", len(fields))
	}
	return strconv.ParseUint(fields[afterName], 10, 64)
}
