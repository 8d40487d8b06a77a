//go:build unix

package top

import (
	"context"
	"math/big"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// job is this process as a shell suspends and continues it.
type job struct {
	signals chan os.Signal
	ignored bool // SIGTSTP was, as this process began
}

// newJob catches the signals of the shell from now on, until close. It leaves SIGTSTP ignored: what began this process, such as a script with
// trap "" TSTP, would not stop with it, and nothing could continue it.
func newJob() *job {
	j := &job{make(chan os.Signal, 2), ignores(syscall.SIGTSTP)}
	signal.Notify(j.signals, syscall.SIGCONT)
	if !j.ignored {
		signal.Notify(j.signals, syscall.SIGTSTP)
	}
	return j
}

func (j *job) close() { signal.Stop(j.signals) }

// ignores tells whether this process ignores a signal, on Linux (proc_pid_status(5)); elsewhere it is false. [signal.Ignored] does not know of
// what was inherited, except SIGHUP and SIGINT.
func ignores(s syscall.Signal) bool {
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		if text, is := strings.CutPrefix(line, "SigIgn:"); is {
			mask, ok := new(big.Int).SetString(strings.TrimSpace(text), 16) // mips has 128 signals
			return ok && mask.Bit(int(s)-1) == 1
		}
	}
	return false
}

// continues tells whether a signal has continued this process.
func continues(s os.Signal) bool { return s == syscall.SIGCONT }

// isControlled tells whether a shell can continue the job. None does if it has the processes that its session began with, as with ssh -t and
// docker exec -it.
func (j *job) isControlled() bool {
	session, err := unix.Getsid(0)
	return err == nil && unix.Getpgrp() != session && !j.ignored
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
