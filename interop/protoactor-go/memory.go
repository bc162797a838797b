package main

import (
	"os"
	"strconv"
	"strings"
)

// peakMemory is the largest resident set so far, in bytes; 0 where the system does not tell. (The figure of getrusage
// begins with that of the process that started this one.)
func peakMemory() int64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for _, line := range strings.Split(string(status), "\n") {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kib << 10
		}
	}
	return 0
}
