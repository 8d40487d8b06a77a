package testbed

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"

	"golang.org/x/sys/unix"
)

// PickCPUs chooses, of the processors that this process may use, one for the flood and one for the tools: not two threads
// of one core, and the same only if there is no other.
func PickCPUs() (flood, tool int, err error) {
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

// Check says what this machine lacks for a link: root, or a program.
func Check() error {
	if os.Geteuid() != 0 {
		return errors.New("this must run as root: it makes network namespaces and captures")
	}
	for program, debian := range map[string]string{"ip": "iproute2", "ethtool": "ethtool"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("the program %s is not installed (Debian: apt-get install %s)", program, debian)
		}
	}
	return nil
}

// Build compiles promflow, of the module that the working directory is in, into a folder.
func Build(ctx context.Context, dir string) (program string, err error) {
	program = filepath.Join(dir, "promflow")
	command := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", program, "promflow")
	command.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := command.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building promflow (or name one with -promflow): %w: %s", err, out)
	}
	return program, nil
}

// core names the core that a processor is a thread of.
func core(cpu int) string {
	threads, err := os.ReadFile(fmt.Sprintf("/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu))
	if err != nil {
		return fmt.Sprint(cpu) // not said: a core of its own
	}
	return string(threads)
}

// Machine describes the kernel and the processors.
func Machine() (string, error) {
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
	return fmt.Sprintf("Linux %s, %s, %s", unix.ByteSliceToString(name.Release[:]), model, Plural(runtime.NumCPU(), "processor")), nil
}
