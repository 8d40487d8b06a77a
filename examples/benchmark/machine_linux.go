package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"runtime"

	"golang.org/x/sys/unix"
)

// pickCPUs chooses, of the processors that this process may use, one for the flood and one for the tools: not two threads
// of one core, and the same only if there is no other.
func pickCPUs() (flood, tool int, err error) {
	var allowed unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		return 0, 0, fmt.Errorf("asking for the processors of this process: %w", err)
	}
	var cpus []int
	for cpu := range len(allowed) * 64 {
		if allowed.IsSet(cpu) {
			cpus = append(cpus, cpu)
		}
	}
	flood, tool = cpus[0], cpus[len(cpus)-1]
	for _, cpu := range cpus[1:] {
		if core(cpu) != core(flood) {
			return flood, cpu, nil
		}
	}
	return flood, tool, nil
}

// core names the core that a processor is a thread of.
func core(cpu int) string {
	threads, err := os.ReadFile(fmt.Sprintf("/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu))
	if err != nil {
		return fmt.Sprint(cpu) // not said: a core of its own
	}
	return string(threads)
}

// machine describes the kernel and the processors.
func machine() (string, error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return "", fmt.Errorf("asking for the kernel's version: %w", err)
	}
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	model := runtime.GOARCH // not every architecture says more
	if m := regexp.MustCompile(`(?m)^model name\s*: (.*)$`).FindSubmatch(info); m != nil {
		model = string(m[1])
	}
	return fmt.Sprintf("Linux %s, %s, %s", unix.ByteSliceToString(name.Release[:]), model, plural(runtime.NumCPU(), "processor")), nil
}
