//go:build !linux

package privilege

import (
	"errors"
	"fmt"
	"runtime"
)

// Raise does nothing.
func Raise() error { return nil }

// Drop does nothing, which is an error if the user was asked for.
func Drop(_ User, asked bool, _ []string) (kept []string, err error) {
	if asked {
		return nil, fmt.Errorf("changing users is for Linux, this is %s: %w", runtime.GOOS, errors.ErrUnsupported)
	}
	return nil, nil
}
