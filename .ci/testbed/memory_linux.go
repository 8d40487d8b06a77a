package testbed

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
)

// Resident gives how many bytes of the process, without those it has started, are resident now.
func (p *Process) Resident() (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.ID()))
	if err != nil {
		return 0, err
	}
	m := resident.FindSubmatch(status)
	if m == nil {
		return 0, fmt.Errorf("process %d has no resident memory", p.ID())
	}
	kib, err := strconv.ParseInt(string(m[1]), 10, 64)
	return kib << 10, err
}

// InKernel gives how many bytes the kernel has for the process's eBPF maps and programs.
func (p *Process) InKernel() (bytes int64, err error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", p.ID()))
	if err != nil {
		return 0, err
	}
	seen := make(map[string]bool) // several descriptors may have one map
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it is closed
		}
		locked, id := memlock.FindSubmatch(text), objectID.Find(text)
		if locked == nil || id == nil || seen[string(id)] {
			continue
		}
		seen[string(id)] = true
		n, err := strconv.ParseInt(string(locked[1]), 10, 64)
		if err != nil {
			return 0, err
		}
		bytes += n
	}
	return bytes, nil
}

var (
	resident = regexp.MustCompile(`(?m)^VmRSS:\s+(\d+) kB$`)
	memlock  = regexp.MustCompile(`(?m)^memlock:\s+(\d+)$`)
	objectID = regexp.MustCompile(`(?m)^(map|prog)_id:\s+\d+$`)
)
