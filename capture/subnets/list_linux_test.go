package subnets

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestPipeIsNoList reads what would block, or never end.
func TestPipeIsNoList(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{pipe, "/dev/zero"} {
		if _, err := ReadFile(name); err == nil || !strings.Contains(err.Error(), name+" is not a regular file") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
