//go:build !darwin && !freebsd && !openbsd

package bpf

import (
	"errors"
	"fmt"
	"runtime"

	"promflow/capture"
)

func open(capture.Config, int) (capture.Capture, error) {
	return nil, fmt.Errorf("bpf(4) needs macOS, FreeBSD or OpenBSD, this is %s: %w", runtime.GOOS, errors.ErrUnsupported)
}
