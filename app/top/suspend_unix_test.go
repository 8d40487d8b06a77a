//go:build unix

package top

import (
	"context"
	"syscall"
	"testing"
)

// TestWhatEndsIsNotSuspended has no screen: a view that leaves one would panic.
func TestWhatEndsIsNotSuspended(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	v := &view{job: &job{}}
	if err := v.suspend(ctx, syscall.SIGCONT); err != nil {
		t.Error(err)
	}
}
