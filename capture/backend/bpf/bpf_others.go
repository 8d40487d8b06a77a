//go:build !darwin && !freebsd && !openbsd

package bpf

import (
	"errors"
	"fmt"
	"runtime"

	"promflow/capture"
)

func open(capture.Config, int) (capture.Capture, error) {
	return nil, fmt.Errorf("devices of bpf(4) are macOS', FreeBSD's and OpenBSD's, this is %s: %w", runtime.GOOS, errors.ErrUnsupported)
}
