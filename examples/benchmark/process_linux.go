package main

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

// process is a program at the receiving end of the link, with the processes that it has started itself: all are of one
// process group.
type process struct {
	link  *link
	cmd   *exec.Cmd
	log   string        // file of what it prints
	ended chan struct{} // closed at its end
}

// refusal says why a tool could not be measured.
type refusal struct{ reason string }

func (r *refusal) Error() string { return r.reason }

// startProcess starts a program that prints into a file.
func startProcess(l *link, log string, command []string) (*process, error) {
	out, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	p := &process{link: l, cmd: exec.Command(command[0], command[1:]...), log: log, ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = out, out
	// A Ctrl-C is for the benchmark, which stops the program then; if it is killed itself, the program is too.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := l.receiver.do(p.cmd.Start); err != nil {
		return nil, err
	}
	go func() {
		p.cmd.Wait() // what it printed says more than its status
		close(p.ended)
	}()
	return p, nil
}

// waitReady waits until ready has no error.
func (p *process) waitReady(ctx context.Context, ready func(context.Context, *process) error) error {
	var last error
	err := poll(ctx, 15*time.Second, func() (bool, error) {
		if err := p.alive(); err != nil {
			return false, err
		}
		last = ready(ctx, p)
		return last == nil, nil
	})
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return &refusal{fmt.Sprintf("it was not ready in time (%v): %s", last, p.lastWords())}
	}
	return err
}

// captures is an error unless there is a packet socket on the interface.
func (p *process) captures() error {
	n, err := p.link.watchers()
	if err == nil && n == 0 {
		err = errors.New("it does not capture")
	}
	return err
}

// alive is an error if the program has ended.
func (p *process) alive() error {
	select {
	case <-p.ended:
		return &refusal{p.lastWords()}
	default:
		return nil
	}
}

// output gives what the program has printed so far.
func (p *process) output() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func (p *process) lastWords() string {
	lines := strings.Split(strings.TrimSpace(p.output()), "\n")
	return lines[len(lines)-1]
}

// ask sends the program a signal, upon which it prints something new that answer matches, and returns the submatches.
func (p *process) ask(ctx context.Context, signal syscall.Signal, answer *regexp.Regexp) ([]string, error) {
	before := len(answer.FindAllString(p.output(), -1))
	if err := p.cmd.Process.Signal(signal); err != nil {
		return nil, fmt.Errorf("%s: %w", p.cmd.Path, err)
	}
	var all [][]string
	err := poll(ctx, 10*time.Second, func() (bool, error) {
		all = answer.FindAllStringSubmatch(p.output(), -1)
		return len(all) > before, p.alive()
	})
	if err != nil {
		return nil, fmt.Errorf("waiting for %s to answer %v: %w", p.cmd.Path, signal, err)
	}
	return all[len(all)-1], nil
}

// members gives the ids of all processes of the program that have not ended.
func (p *process) members() ([]int, error) {
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

// usage gives the processor time of the program so far, and the most bytes that it had resident.
func (p *process) usage() (cpu time.Duration, memory int64, err error) {
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

// idle waits until the program has had nothing to do for a while, for some seconds at the most, and gives the processor time
// that it has used.
func (p *process) idle(ctx context.Context) (cpu time.Duration, err error) {
	const look, idle, little = 100 * time.Millisecond, 700 * time.Millisecond, time.Millisecond // darkstat looks every 500 ms
	since, last := time.Now(), time.Now()
	err = poll(ctx, 10*time.Second, func() (bool, error) {
		if time.Since(last) < look {
			return false, nil
		}
		last = time.Now()
		now, _, err := p.usage()
		if now-cpu > little {
			since = last
		}
		cpu = now
		return time.Since(since) > idle, errors.Join(err, p.alive())
	})
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = nil
	}
	return cpu, err
}

// stop ends all processes of the program, and returns when none of its sockets is left.
func (p *process) stop() error {
	group := -p.cmd.Process.Pid
	gone := func() (bool, error) {
		ids, err := p.members()
		if err != nil || len(ids) > 0 {
			return false, err
		}
		watchers, err := p.link.watchers()
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
		if err := poll(context.Background(), 5*time.Second, gone); err == nil {
			<-p.ended
			return nil
		} else if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
	}
	return fmt.Errorf("%s cannot be stopped", p.cmd.Path)
}

// poll waits until done is true or an error, ctx ends, or so much time has passed: then it returns os.ErrDeadlineExceeded.
func poll(ctx context.Context, limit time.Duration, done func() (bool, error)) error {
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
