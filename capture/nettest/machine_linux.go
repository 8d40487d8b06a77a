package nettest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"

	"golang.org/x/sys/unix"
)

// pickCPUs chooses, of the processors that this process may use, one for the sender of a link and one for what receives: not two threads
// of one core, and the same only if there is no other.
func pickCPUs(t TB) (send, receive int) {
	t.Helper()
	var allowed unix.CPUSet
	Check(t, unix.SchedGetaffinity(0, &allowed))
	var cpus []int
	for cpu := range len(allowed) * 64 {
		if allowed.IsSet(cpu) {
			cpus = append(cpus, cpu)
		}
	}
	for _, cpu := range cpus[1:] {
		if core(cpu) != core(cpus[0]) {
			return cpus[0], cpu
		}
	}
	return cpus[0], cpus[len(cpus)-1]
}

// Build compiles promflow, of the module that the working directory is in, into a folder.
func Build(t TB, dir string) (program string) {
	t.Helper()
	program = filepath.Join(dir, "promflow")
	command := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", program, "promflow")
	command.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("building promflow (or name one with -promflow): %v: %s", err, out)
	}
	return program
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
func Machine() string {
	var name unix.Utsname
	unix.Uname(&name)       // fails only for a bad address
	model := runtime.GOARCH // not every architecture says more
	info, _ := os.ReadFile("/proc/cpuinfo")
	if m := regexp.MustCompile(`(?m)^model name\s*: (.*)$`).FindSubmatch(info); m != nil {
		model = string(m[1])
	}
	return fmt.Sprintf("Linux %s, %s, %s", unix.ByteSliceToString(name.Release[:]), model, Plural(runtime.NumCPU(), "processor"))
}
