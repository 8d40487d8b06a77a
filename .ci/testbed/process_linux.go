package testbed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Process is a program at the receiving end of the link, with the processes that it has started itself: all are of one
// process group.
type Process struct {
	link  *Link
	cmd   *exec.Cmd
	log   string        // file of what it prints
	ended chan struct{} // closed at its end
}

// Refusal says why a program did not run, or did not go on to.
type Refusal struct{ Reason string }

func (r *Refusal) Error() string { return r.Reason }

// StartProcess starts a program that prints into a file.
func StartProcess(l *Link, log string, command []string) (*Process, error) {
	out, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	p := &Process{link: l, cmd: exec.Command(command[0], command[1:]...), log: log, ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = out, out
	// A Ctrl-C is for whoever started the program, and stops it then; if that is killed itself, so is the program.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := l.Receiver.Do(p.cmd.Start); err != nil {
		return nil, err
	}
	go func() {
		p.cmd.Wait() // what it printed says more than its status
		close(p.ended)
	}()
	return p, nil
}

// WaitReady waits until ready has no error.
func (p *Process) WaitReady(ctx context.Context, ready func(context.Context, *Process) error) error {
	var last error
	err := Poll(ctx, 15*time.Second, func() (bool, error) {
		if err := p.Alive(); err != nil {
			return false, err
		}
		last = ready(ctx, p)
		return last == nil, nil
	})
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return &Refusal{fmt.Sprintf("it was not ready in time (%v): %s", last, p.LastWords())}
	}
	return err
}

// Page fetches a page from the program's end of the link.
func (p *Process) Page(ctx context.Context, url string) (string, error) { return p.link.Page(ctx, url) }

// Captures is an error unless there is a packet socket on the interface.
func (p *Process) Captures() error {
	n, err := p.link.Watchers()
	if err == nil && n == 0 {
		err = errors.New("it does not capture")
	}
	return err
}

// Alive is an error if the program has ended.
func (p *Process) Alive() error {
	select {
	case <-p.ended:
		return &Refusal{p.LastWords()}
	default:
		return nil
	}
}

// Output gives what the program has printed so far.
func (p *Process) Output() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// LastWords is the last line of its output.
func (p *Process) LastWords() string {
	lines := strings.Split(strings.TrimSpace(p.Output()), "\n")
	return lines[len(lines)-1]
}

// ID is that of the process that was started.
func (p *Process) ID() int { return p.cmd.Process.Pid }

// Kill ends the process without giving it a chance to do anything, and returns when it is gone.
func (p *Process) Kill() {
	p.cmd.Process.Kill() // fails only if it is gone already
	<-p.ended
}

// Ask sends the program a signal, upon which it prints something new that answer matches, and returns the submatches.
func (p *Process) Ask(ctx context.Context, signal syscall.Signal, answer *regexp.Regexp) ([]string, error) {
	before := len(answer.FindAllString(p.Output(), -1))
	if err := p.cmd.Process.Signal(signal); err != nil {
		return nil, fmt.Errorf("%s: %w", p.cmd.Path, err)
	}
	var all [][]string
	err := Poll(ctx, 10*time.Second, func() (bool, error) {
		all = answer.FindAllStringSubmatch(p.Output(), -1)
		return len(all) > before, p.Alive()
	})
	if err != nil {
		return nil, fmt.Errorf("waiting for %s to answer %v: %w", p.cmd.Path, signal, err)
	}
	return all[len(all)-1], nil
}

// members gives the ids of all processes of the program that have not ended.
func (p *Process) members() ([]int, error) {
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	var ids []int
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it is gone
		}
		// ID (NAME) STATE PARENT GROUP ..., and the name may have anything in it.
		end := bytes.LastIndexByte(text, ')')
		f := strings.Fields(string(text[end+1:]))
		if end < 0 || len(f) < 3 || f[0] == "Z" || f[2] != strconv.Itoa(p.cmd.Process.Pid) {
			continue
		}
		id, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// Usage gives the processor time of the program so far, and the most bytes that it had resident.
func (p *Process) Usage() (cpu time.Duration, memory int64, err error) {
	ids, err := p.members()
	if err != nil {
		return 0, 0, err
	}
	for _, id := range ids {
		// The clock of a process's processor time, as clock_getcpuclockid(3) makes it; it has all threads and, unlike the
		// figures of /proc/ID/stat, nanoseconds.
		var t unix.Timespec
		if err := unix.ClockGettime(int32(^id<<3|2), &t); errors.Is(err, unix.EINVAL) {
			continue // it is gone
		} else if err != nil {
			return 0, 0, fmt.Errorf("processor time of process %d: %w", id, err)
		}
		cpu += time.Duration(t.Nano())
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", id))
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue
		} else if err != nil {
			return 0, 0, err
		}
		if m := highWaterMark.FindSubmatch(status); m != nil {
			kib, err := strconv.ParseInt(string(m[1]), 10, 64)
			if err != nil {
				return 0, 0, err
			}
			memory += kib << 10
		}
	}
	return cpu, memory, nil
}

var highWaterMark = regexp.MustCompile(`(?m)^VmHWM:\s+(\d+) kB$`)

// Idle waits until the program has had nothing to do for a while, for some seconds at the most, and gives the processor time
// that it has used.
func (p *Process) Idle(ctx context.Context) (cpu time.Duration, err error) {
	const look, idle, little = 100 * time.Millisecond, 700 * time.Millisecond, time.Millisecond // darkstat looks every 500 ms
	since, last := time.Now(), time.Now()
	err = Poll(ctx, 10*time.Second, func() (bool, error) {
		if time.Since(last) < look {
			return false, nil
		}
		last = time.Now()
		now, _, err := p.Usage()
		if now-cpu > little {
			since = last
		}
		cpu = now
		return time.Since(since) > idle, errors.Join(err, p.Alive())
	})
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = nil
	}
	return cpu, err
}

// Stop ends all processes of the program, the only one that captures, and returns when none of its sockets is left.
func (p *Process) Stop() error {
	group := -p.cmd.Process.Pid
	gone := func() (bool, error) {
		ids, err := p.members()
		if err != nil || len(ids) > 0 {
			return false, err
		}
		watchers, err := p.link.Watchers()
		return watchers == 0, err
	}
	if ok, err := gone(); ok || err != nil {
		return err
	}
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		if err := syscall.Kill(group, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("stopping %s: %w", p.cmd.Path, err)
		}
		// The run may be over, and this has to be done all the same.
		if err := Poll(context.Background(), 5*time.Second, gone); err == nil {
			<-p.ended
			return nil
		} else if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
	}
	return fmt.Errorf("%s cannot be stopped", p.cmd.Path)
}

// Poll waits until done is true or an error, ctx ends, or so much time has passed: then it returns os.ErrDeadlineExceeded.
func Poll(ctx context.Context, limit time.Duration, done func() (bool, error)) error {
	over := time.After(limit)
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-over:
			return os.ErrDeadlineExceeded
		case <-time.After(20 * time.Millisecond):
		}
	}
}
