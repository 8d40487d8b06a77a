package capturetest

import (
	"os"
	"os/exec"
	"testing"
)

// Need skips the test, or fails it in CI, unless all programs are installed.
func Need(t testing.TB, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			Lacks(t, "the program "+p)
		}
	}
}

// NeedRoot skips the test, or fails it in CI, unless it runs as root.
func NeedRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		Lacks(t, "root")
	}
}

// Lacks skips the test for lack of something; in CI (CI=true) nothing may be lacking.
func Lacks(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("this test needs %s, and CI must have it", what)
	}
	t.Skipf("needs %s", what)
}

// completeKernel says that the kernel has all that tests need. It is read before a test could change the environment.
var completeKernel = os.Getenv("PROMFLOW_TEST_KERNEL") == "complete"

// KernelLacks skips the test for lack of something in the kernel. In CI, too: its machine may have any kernel. Where CI boots kernels that
// have it all, and says so (PROMFLOW_TEST_KERNEL=complete), nothing may be lacking.
func KernelLacks(t testing.TB, what string) {
	t.Helper()
	if completeKernel {
		t.Fatalf("this test needs a kernel with %s, and this one must have it", what)
	}
	t.Skipf("needs a kernel with %s", what)
}
