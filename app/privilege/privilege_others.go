//go:build !linux

package privilege

import (
	"errors"
	"fmt"
	"runtime"
)

// Raise does nothing.
func Raise() error { return nil }

// Drop does nothing. That is an error if asked says that the user was asked for.
func Drop(_ User, asked bool, _ []string) (kept []string, err error) {
	if asked {
		return nil, fmt.Errorf("promflow changes its user on Linux only, and this is %s: %w", runtime.GOOS, errors.ErrUnsupported)
	}
	return nil, nil
}

// Becomes tells that Drop changes no user.
func Becomes(User) bool { return false }
