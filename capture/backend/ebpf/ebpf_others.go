//go:build !linux

package ebpf

import (
	"errors"
	"fmt"
	"runtime"

	"promflow/capture"
)

func open(capture.Config, int) (capture.Capture, error) {
	return nil, fmt.Errorf("eBPF socket filters are Linux', this is %s: %w", runtime.GOOS, errors.ErrUnsupported)
}
