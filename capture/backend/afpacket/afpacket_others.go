//go:build !linux

package afpacket

import (
	"errors"
	"fmt"
	"runtime"

	"promflow/capture"
)

func open(capture.Config, int) (capture.Capture, error) {
	return nil, fmt.Errorf("AF_PACKET sockets need Linux, this is %s: %w", runtime.GOOS, errors.ErrUnsupported)
}
