package nettest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
)

// Try calls f as a test is called, in a program that is none: f ends where it fails, and its cleanups run. It returns the error of f, and
// those of cleanups. An error that is passed to Fatal is among them. Any goroutine may fail: that ends the context, too.
func Try(ctx context.Context, f func(TB)) error {
	p := new(program)
	errs := []error{p.call(ctx, func() { f(p) })}
	for _, cleanup := range slices.Backward(p.cleanups) {
		errs = append(errs, p.call(context.WithoutCancel(ctx), cleanup))
	}
	return errors.Join(errs...)
}

// program is the TB of a program that is no test.
type program struct {
	ctx      context.Context
	fail     context.CancelCauseFunc
	cleanups []func()
}

func (p *program) call(ctx context.Context, f func()) error {
	p.ctx, p.fail = context.WithCancelCause(ctx)
	defer p.fail(nil)
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	<-done
	return context.Cause(p.ctx)
}

func (p *program) Cleanup(f func())         { p.cleanups = append(p.cleanups, f) }
func (p *program) Context() context.Context { return p.ctx }
func (p *program) Helper()                  {}

func (p *program) Fatal(args ...any) {
	err, ok := args[0].(error)
	if !ok {
		err = errors.New(fmt.Sprint(args...))
	}
	p.fail(err)
	runtime.Goexit()
}

func (p *program) Fatalf(format string, args ...any) { p.Fatal(fmt.Errorf(format, args...)) }
func (p *program) Skipf(format string, args ...any)  { p.Fatalf(format, args...) }

func (p *program) TempDir() string {
	dir, err := os.MkdirTemp("", "promflow-")
	Check(p, err)
	p.Cleanup(func() { Check(p, os.RemoveAll(dir)) })
	return dir
}
