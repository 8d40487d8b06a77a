package testbed

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Namespace is a network namespace without a name, with lo up and without IPv6, so that nothing is on a link but what is
// sent on purpose. It is that of a thread which is bound to one processor, and goes away with the thread and the programs
// that were started on it: nothing is left of it however the program ends.
type Namespace struct {
	Proc  string // folder of the thread in /proc
	tasks chan func()
	ended chan struct{}
}

// NewNamespace makes a namespace whose thread, and what is started on it, runs on that processor.
func NewNamespace(cpu int) (*Namespace, error) {
	n := &Namespace{tasks: make(chan func()), ended: make(chan struct{})}
	failed := make(chan error)
	go func() {
		defer close(n.ended)
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		err := n.enter(cpu)
		failed <- err
		if err != nil {
			return
		}
		for task := range n.tasks {
			task()
		}
	}()
	if err := <-failed; err != nil {
		return nil, err
	}
	if err := n.Run("ip", "link", "set", "lo", "up"); err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

// enter moves the calling thread into a new namespace.
func (n *Namespace) enter(cpu int) error {
	n.Proc = fmt.Sprintf("/proc/%d/task/%d", os.Getpid(), unix.Gettid())
	var only unix.CPUSet
	only.Set(cpu)
	if err := unix.SchedSetaffinity(0, &only); err != nil {
		return fmt.Errorf("binding a thread to processor %d: %w", cpu, err)
	}
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("making a network namespace: %w", err)
	}
	for _, interfaces := range []string{"all", "default"} {
		err := os.WriteFile("/proc/sys/net/ipv6/conf/"+interfaces+"/disable_ipv6", []byte("1"), 0)
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // a kernel without IPv6 has no such file
			return fmt.Errorf("turning IPv6 off: %w", err)
		}
	}
	return nil
}

// Do calls f on the namespace's thread: sockets that it opens and programs that it starts are in there.
func (n *Namespace) Do(f func() error) error {
	done := make(chan error, 1)
	n.tasks <- func() { done <- f() }
	return <-done
}

// Run runs a program in the namespace.
func (n *Namespace) Run(args ...string) error {
	return n.Do(func() error {
		out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
		}
		return nil
	})
}

// Dial connects from within the namespace to an address that is not a name.
func (n *Namespace) Dial(ctx context.Context, network, address string) (c net.Conn, err error) {
	err = n.Do(func() (err error) {
		c, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return c, err
}

// Close ends the thread.
func (n *Namespace) Close() {
	close(n.tasks)
	<-n.ended
}
