//go:build !linux

package check

import (
	"context"
	"errors"
	"fmt"
	"runtime"
)

// Run returns an error: check works on Linux only.
func Run(context.Context, Setup) (*Report, error) {
	return nil, fmt.Errorf("it compares with the counters of Linux, and this is %s: %w", runtime.GOOS, errors.ErrUnsupported)
}
