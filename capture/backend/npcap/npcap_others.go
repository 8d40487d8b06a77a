//go:build !windows || !amd64

package npcap

import (
	"errors"
	"fmt"
	"runtime"

	"promflow/capture"
)

func open(capture.Config, int) (capture.Capture, error) {
	return nil, fmt.Errorf("Npcap needs windows/amd64, this is %s/%s: %w", runtime.GOOS, runtime.GOARCH, errors.ErrUnsupported)
}
