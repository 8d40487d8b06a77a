package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestReplayOfFIFOThatNobodyWritesTo ends at the first signal, whether somebody has opened the FIFO or nobody has.
func TestReplayOfFIFOThatNobodyWritesTo(t *testing.T) {
	for _, c := range []struct {
		name   string
		opened bool // by somebody who does not write
		says   string
		within time.Duration
	}{
		{"nobody opens it", false, "fifo: interrupted before anybody wrote to it", time.Second},
		{"somebody opens it", true, "fifo: interrupted", 4 * time.Second}, // maybe before promflow knows of it
	} {
		for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT} {
			t.Run(fmt.Sprintf("%s, %v", c.name, signal), func(t *testing.T) {
				t.Parallel()
				fifo := filepath.Join(t.TempDir(), "fifo")
				if err := unix.Mkfifo(fifo, 0o600); err != nil {
					t.Fatal(err)
				}
				var out, errs bytes.Buffer
				cmd := promflow(t, "replay", fifo)
				cmd.Stdout, cmd.Stderr = &out, &errs
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				defer time.AfterFunc(deadline, func() { cmd.Process.Kill() }).Stop()
				eventually(t, func() error { return waitsFor(cmd.Process.Pid, "wait_for_partner") })
				if c.opened {
					w, err := os.OpenFile(fifo, os.O_WRONLY, 0)
					if err != nil {
						t.Fatal(err)
					}
					defer w.Close()
					eventually(t, func() error { return holds(cmd.Process.Pid, fifo) })
				}
				begin := time.Now()
				if err := cmd.Process.Signal(signal); err != nil {
					t.Fatal(err)
				}
				status := exitStatus(cmd.Wait())
				if took := time.Since(begin); took > c.within {
					t.Errorf("took %v", took)
				}
				if line := errs.String(); status != 1 || out.Len() > 0 || !strings.HasPrefix(line, "promflow: ") || !strings.Contains(line, c.says) ||
					strings.Count(line, "\n") != 1 {
					t.Errorf("ended with status %d, printed %q and said %q, want %q", status, &out, line, c.says)
				}
			})
		}
	}
}

// waitsFor tells whether a thread of a process waits in a function of the kernel: wait_for_partner is where opening a FIFO waits.
func waitsFor(pid int, function string) error {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/wchan", pid))
	if err != nil {
		return err
	}
	for _, thread := range threads {
		if at, err := os.ReadFile(thread); err == nil && string(at) == function {
			return nil
		}
	}
	return errors.New("no thread waits in " + function)
}

// holds tells whether a process has a file open.
func holds(pid int, file string) error {
	descriptors, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		return err
	}
	for _, descriptor := range descriptors {
		if at, err := os.Readlink(descriptor); err == nil && at == file {
			return nil
		}
	}
	return errors.New("nobody has opened " + file)
}
