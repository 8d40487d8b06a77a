//go:build unix

package top

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// job is this process as a shell suspends and continues it.
type job struct{ signals chan os.Signal }

// newJob catches the signals of the shell from now on, until close.
func newJob() *job {
	j := &job{make(chan os.Signal, 2)}
	signal.Notify(j.signals, syscall.SIGTSTP, syscall.SIGCONT)
	return j
}

func (j *job) close() { signal.Stop(j.signals) }

// continues tells whether a signal has continued this process.
func continues(s os.Signal) bool { return s == syscall.SIGCONT }

// isControlled tells whether a shell can continue the job. None does if it has the processes that its session began with, as with ssh -t and
// docker exec -it.
func isControlled() bool {
	session, err := unix.Getsid(0)
	return err == nil && unix.Getpgrp() != session
}

// stopAll asks all processes of the job to stop, as the terminal does at Ctrl-Z unless it is in raw mode. It waits until it is asked itself.
func (j *job) stopAll(ctx context.Context) error {
	if err := syscall.Kill(0, syscall.SIGTSTP); err != nil {
		return err
	}
	j.await(ctx, syscall.SIGTSTP)
	return nil
}

// stop stops this process, until it is continued or ctx ends. (Go cannot give SIGTSTP its default action back.)
func (j *job) stop(ctx context.Context) error {
	if err := syscall.Kill(syscall.Getpid(), syscall.SIGSTOP); err != nil {
		return err
	}
	j.await(ctx, syscall.SIGCONT)
	return nil
}

// await takes signals until it has taken this one, or ctx ends.
func (j *job) await(ctx context.Context, s os.Signal) {
	for {
		select {
		case <-ctx.Done():
			return
		case taken := <-j.signals:
			if taken == s {
				return
			}
		}
	}
}
