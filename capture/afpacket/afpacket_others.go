//go:build !linux

package afpacket

import (
	"errors"
	"fmt"
	"runtime"

	"promflow/capture"
)

func open(capture.Config, *capture.Counter) (capture.Source, error) {
	return nil, fmt.Errorf("AF_PACKET sockets are Linux', this is %s: %w", runtime.GOOS, errors.ErrUnsupported)
}
