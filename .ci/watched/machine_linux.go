package watched

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"

	"golang.org/x/sys/unix"

	"promflow/capture/nettest"
)

// Build compiles promflow, of the module that the working directory is in, into a folder.
func Build(t nettest.TB, dir string) (program string) {
	t.Helper()
	program = filepath.Join(dir, "promflow")
	command := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", program, "promflow")
	command.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("building promflow (or name one with -promflow): %v: %s", err, out)
	}
	return program
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
