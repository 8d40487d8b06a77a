//go:build !linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
)

func run(context.Context, options, io.Writer) error {
	return fmt.Errorf("the benchmark needs Linux: %w", errors.ErrUnsupported)
}
