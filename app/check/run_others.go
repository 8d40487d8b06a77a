//go:build !linux

package check

import (
	"context"
	"errors"
	"fmt"
)

// Run checks. Here it cannot: the error says so.
func Run(context.Context, Setup) (*Report, error) {
	return nil, fmt.Errorf("live capture needs Linux: %w", errors.ErrUnsupported)
}
