package nettest

import (
	"context"
	"os"
	"os/exec"
)

// TB is what this package needs of a test or benchmark. Try has one for programs that are neither.
type TB interface {
	Cleanup(func())
	Context() context.Context
	Fatal(...any)
	Fatalf(string, ...any)
	Helper()
	Skipf(string, ...any)
	TempDir() string
}

// Check ends the test if there is an error.
func Check(t TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Need skips the test unless all programs are installed. In CI the test fails.
func Need(t TB, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			Lacks(t, "the program "+p)
		}
	}
}

// NeedRoot skips the test unless it runs as root. In CI the test fails.
func NeedRoot(t TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		Lacks(t, "root")
	}
}

// Lacks skips the test because something is missing. In CI (CI=true) the test fails.
func Lacks(t TB, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("this test needs %s, and CI must have it", what)
	}
	t.Skipf("needs %s", what)
}

// completeKernel says that the kernel has all that tests need. It is read before a test can change the environment.
var completeKernel = os.Getenv("PROMFLOW_TEST_KERNEL") == "complete"

// KernelLacks skips the test because the kernel lacks something. CI may run on any kernel, so the test fails only on kernels that CI boots
// itself and that have everything (PROMFLOW_TEST_KERNEL=complete).
func KernelLacks(t TB, what string) {
	t.Helper()
	if completeKernel {
		t.Fatalf("this test needs a kernel with %s, and this one must have it", what)
	}
	t.Skipf("needs a kernel with %s", what)
}
