package watched

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"promflow/capture/nettest"

	"golang.org/x/sys/unix"
)

// Process is a program at the receiving end of a link, with the processes that it has started itself: all are of one process group.
type Process struct {
	t     nettest.TB
	link  *nettest.Link
	cmd   *exec.Cmd
	log   string        // file of what it prints
	ended chan struct{} // closed at its end
}

// Refusal says why a program did not run, or did not go on to.
type Refusal struct{ Reason string }

func (r *Refusal) Error() string { return r.Reason }

// Start starts a program that prints into a file. It is to be ended with Stop or Kill.
func Start(t nettest.TB, l *nettest.Link, log string, command ...string) *Process {
	t.Helper()
	out, err := os.Create(log)
	nettest.Check(t, err)
	defer out.Close()
	p := &Process{t: t, link: l, cmd: l.Receiver.Command(command...), log: log, ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = out, out
	// A Ctrl-C is for whoever started the program, and stops it then. If that is killed itself, so is the program, as it is at the end of
	// the thread that started it.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error, 2)
	go func() {
		started <- l.Receiver.Do(func() error {
			started <- p.cmd.Start()
			p.cmd.Wait() // what it printed says more than its status
			close(p.ended)
			return nil
		})
	}()
	nettest.Check(t, <-started)
	return p
}

// WaitReady waits until ready has no error.
func (p *Process) WaitReady(ready func() error) {
	p.t.Helper()
	var last error
	err := Poll(p.t.Context(), 15*time.Second, func() bool {
		last = ready()
		return last == nil || p.Alive() != nil
	})
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = &Refusal{fmt.Sprintf("it was not ready in time (%v): %s", last, p.LastWords())}
	}
	nettest.Check(p.t, errors.Join(err, p.Alive()))
}

// Get fetches a page from the program's end of the link.
func (p *Process) Get(url string) (string, error) {
	ctx, cancel := context.WithTimeout(p.t.Context(), time.Minute) // a page of many hosts takes its time
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	client := http.Client{Transport: &http.Transport{DialContext: p.link.Receiver.Dial, DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if response.StatusCode != http.StatusOK {
		err = errors.New(response.Status)
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", url, err)
	}
	return string(body), nil
}

// Captures is an error unless there is a packet socket on the interface.
func (p *Process) Captures() error {
	n, err := watchers(p.link)
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

// Kill ends the process without giving it a chance to do anything, and returns when it is gone.
func (p *Process) Kill() {
	p.cmd.Process.Kill() // fails only if it is gone already
	<-p.ended
}

// Ask sends the program a signal, upon which it prints something new that answer matches, and returns the submatches.
func (p *Process) Ask(signal syscall.Signal, answer *regexp.Regexp) []string {
	p.t.Helper()
	before := len(answer.FindAllString(p.Output(), -1))
	nettest.Check(p.t, p.cmd.Process.Signal(signal))
	var all [][]string
	err := Poll(p.t.Context(), 10*time.Second, func() bool {
		all = answer.FindAllStringSubmatch(p.Output(), -1)
		return len(all) > before || p.Alive() != nil
	})
	if err := errors.Join(err, p.Alive()); err != nil {
		p.t.Fatal(fmt.Errorf("waiting for %v to answer %v: %w", p.cmd.Args, signal, err))
	}
	return all[len(all)-1]
}

// members gives the ids of all processes of the program that have not ended.
func (p *Process) members() (ids []int) {
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range files {
		text, _ := os.ReadFile(file) // nothing if it is gone
		// ID (NAME) STATE PARENT GROUP ..., and the name may have anything in it.
		f := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
		if len(f) < 3 || f[0] == "Z" || f[2] != strconv.Itoa(p.cmd.Process.Pid) {
			continue
		}
		id, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		ids = append(ids, id)
	}
	return ids
}

// Usage gives the processor time of the program so far, and the most bytes that it had resident.
func (p *Process) Usage() (cpu time.Duration, memory int64) {
	p.t.Helper()
	for _, id := range p.members() {
		// The clock of a process's processor time, as clock_getcpuclockid(3) makes it; it has all threads and, unlike the
		// figures of /proc/ID/stat, nanoseconds.
		var t unix.Timespec
		if err := unix.ClockGettime(int32(^id<<3|2), &t); errors.Is(err, unix.EINVAL) {
			continue // it is gone
		} else if err != nil {
			p.t.Fatalf("processor time of process %d: %v", id, err)
		}
		cpu += time.Duration(t.Nano())
		memory += figures(fmt.Sprintf("/proc/%d/status", id))["VmHWM"] << 10
	}
	return cpu, memory
}

// Resident gives how many bytes of the process, without those it has started, are resident now.
func (p *Process) Resident() int64 {
	return figures(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))["VmRSS"] << 10
}

// InKernel gives how many bytes the kernel has for the process's eBPF maps and programs.
func (p *Process) InKernel() (bytes int64) {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", p.cmd.Process.Pid))
	type object struct{ isMap, isProgram int64 }
	seen := make(map[object]bool) // several descriptors may have one map
	for _, file := range files {
		f := figures(file)
		if id := (object{f["map_id"], f["prog_id"]}); id != (object{}) && !seen[id] {
			seen[id] = true
			bytes += f["memlock"]
		}
	}
	return bytes
}

// figures gives the numbers of a file of /proc by the names in front of them. It has none if it is gone.
func figures(file string) map[string]int64 {
	all := make(map[string]int64)
	text, _ := os.ReadFile(file)
	for line := range strings.Lines(string(text)) {
		name, rest, _ := strings.Cut(line, ":")
		number, _, _ := strings.Cut(strings.TrimSpace(rest), " ") // a unit may follow
		if n, err := strconv.ParseInt(number, 10, 64); err == nil {
			all[name] = n
		}
	}
	return all
}

// Idle waits until the program has had nothing to do for a while, for some seconds at the most, and gives the processor time
// that it has used.
func (p *Process) Idle() (cpu time.Duration) {
	p.t.Helper()
	const little = time.Millisecond // darkstat looks every 500 ms
	Settle(p.t, 700*time.Millisecond, func() (same, done bool) {
		nettest.Check(p.t, p.Alive())
		before := cpu
		cpu, _ = p.Usage()
		return cpu-before <= little, false
	})
	return cpu
}

// Stop ends all processes of the program, the only one that captures, and returns when none of its sockets is left.
func (p *Process) Stop() {
	p.t.Helper()
	gone := func() bool {
		watchers, err := watchers(p.link)
		nettest.Check(p.t, err)
		return watchers == 0 && len(p.members()) == 0
	}
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		if err := syscall.Kill(-p.cmd.Process.Pid, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			p.t.Fatalf("stopping %v: %v", p.cmd.Args, err)
		}
		if Poll(context.Background(), 5*time.Second, gone) == nil { // even if the run is over
			<-p.ended
			return
		}
	}
	p.t.Fatalf("%v cannot be stopped", p.cmd.Args)
}

// Poll waits until done is true, ctx ends, or so much time has passed: then it returns os.ErrDeadlineExceeded.
func Poll(ctx context.Context, limit time.Duration, done func() bool) error {
	over := time.After(limit)
	for !done() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-over:
			return os.ErrDeadlineExceeded
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}

// Settle calls look ten times a second, until it has found the same for a while, or is done, or for 15 s at the most.
func Settle(t nettest.TB, while time.Duration, look func() (same, done bool)) {
	t.Helper()
	begin := time.Now()
	for since := begin; time.Since(since) < while && time.Since(begin) < 15*time.Second; time.Sleep(100 * time.Millisecond) {
		nettest.Check(t, t.Context().Err())
		same, done := look()
		if done {
			return
		}
		if !same {
			since = time.Now()
		}
	}
}

// watchers gives how many packet sockets receive what comes out of the link.
func watchers(l *nettest.Link) (n int, err error) {
	err = l.Receiver.Do(func() error {
		device, err := net.InterfaceByName(nettest.Receiving)
		if err != nil {
			return err
		}
		text, err := os.ReadFile("/proc/thread-self/net/packet")
		for line := range strings.Lines(string(text)) {
			// sk RefCnt Type Proto Iface R(unning) Rmem User Inode
			if f := strings.Fields(line); len(f) > 5 && f[4] == strconv.Itoa(device.Index) && f[5] == "1" {
				n++
			}
		}
		return err
	})
	return n, err
}
