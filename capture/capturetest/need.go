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
