//go:build !linux

package watch

import (
	"context"
	"errors"
	"fmt"
	"runtime"
)

// Watch is a capture on interfaces.
type Watch struct{}

// Open fails: where interfaces are cannot be told here.
func Open(Config) (*Watch, error) {
	return nil, fmt.Errorf("watching network interfaces is for Linux, this is %s: %w", runtime.GOOS, errors.ErrUnsupported)
}

func (*Watch) Run(context.Context) error { return nil }
func (*Watch) Statuses() []Status        { return nil }
func (*Watch) Keeps() []string           { return nil }
func (*Watch) Close() error              { return nil }
