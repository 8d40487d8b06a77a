//go:build !linux

package check

import (
	"context"
	"errors"
	"fmt"
	"runtime"
)

// Run checks. Here it cannot: the error says so.
func Run(context.Context, Setup) (*Report, error) {
	return nil, fmt.Errorf("what is captured is compared with the counters of Linux, this is %s: %w", runtime.GOOS, errors.ErrUnsupported)
}
