package app

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"promflow/app/live"
	"promflow/telemetry"
)

// reloader reads again what may change while promflow runs: the files of subnets, and those that are read whenever they are used, so that
// errors are known at once.
type reloader struct {
	log    *slog.Logger
	hangup chan os.Signal

	mu   sync.Mutex
	jobs []func() error // each keeps what was if it fails
	last atomic.Pointer[telemetry.Reload]
}

// newReloader returns a reloader. From now on SIGHUP does not end the program.
func newReloader(log *slog.Logger) *reloader {
	r := &reloader{log: log, hangup: make(chan os.Signal, 1)}
	r.last.Store(&telemetry.Reload{Successful: true, Succeeded: time.Now()})
	signal.Notify(r.hangup, syscall.SIGHUP)
	return r
}

// add adds a job.
func (r *reloader) add(job func() error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.jobs = append(r.jobs, job)
}

// reload does all jobs. Calls wait for each other.
func (r *reloader) reload() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	for _, job := range r.jobs {
		errs = append(errs, job())
	}
	last := *r.last.Load()
	err := errors.Join(errs...)
	if last.Successful = err == nil; err != nil {
		r.log.Error("reloading failed: what is wrong stays as it was", "error", oneLine(err))
	} else {
		last.Succeeded = time.Now()
		r.log.Info("reloaded")
	}
	r.last.Store(&last)
	return err
}

// run reloads at each SIGHUP until ctx ends.
func (r *reloader) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.hangup:
			live.Abandon(ctx, func() { _ = r.reload() }) // it is logged
		}
	}
}
