package kernel

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/features"
	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"

	"promflow/capture"
)

const doing = "loading an eBPF program"

// needs is what a kernel must have, with the version of Linux that added it.
var needs = []struct {
	what  string
	probe func() error
}{
	{"eBPF socket filters (Linux 3.19)", func() error { return features.HaveProgramType(ebpf.SocketFilter) }},
	{"eBPF maps of type stack (Linux 4.20)", func() error { return features.HaveMapType(ebpf.Stack) }},
	{"eBPF maps that can be mapped into memory (Linux 5.5)", func() error { return features.HaveMapFlag(features.BPF_F_MMAPABLE) }},
}

// needs returns the capabilities without which no program can be loaded. The offset of a header in a frame of XDP varies, which verifiers
// allow with CAP_PERFMON only.
func (h Hooks) needs() []cap.Value {
	if h == Sockets {
		return []cap.Value{cap.BPF}
	}
	return []cap.Value{cap.BPF, cap.NET_ADMIN, cap.PERFMON}
}

// explain returns an error that says why the program could not be loaded for a table. memlockErr is why the limit of locked memory could
// not be raised, or nil.
func explain(err error, table *capture.Table, hooks Hooks, memlockErr error) error {
	// Not every error of the verifier is a VerifierError: a verifier that breaks down returns EFAULT.
	refused := errors.As(err, new(*ebpf.VerifierError)) && !errors.Is(err, unix.ENOMEM) || errors.Is(err, unix.EFAULT)
	for _, needed := range hooks.needs() {
		if !hasCapability(needed) {
			return &capture.MissingCapabilityError{Capability: needed.String(), Doing: doing, Err: unix.EPERM}
		}
	}
	switch {
	case errors.Is(err, unix.ENOSYS):
		return lacks("the bpf system call (CONFIG_BPF_SYSCALL)", err)
	case !refused && (errors.Is(err, unix.ENOMEM) || errors.Is(err, unix.E2BIG)):
		return noRoom(table, err)
	case !refused && errors.Is(err, os.ErrPermission):
		return forbidden(memlockErr)
	}
	for _, n := range needs {
		if probeErr := n.probe(); errors.Is(probeErr, ebpf.ErrNotSupported) {
			return lacks(n.what, err)
		}
	}
	refused = refused && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EMFILE) && !errors.Is(err, unix.ENFILE)
	if refused && !hasCapability(cap.PERFMON) {
		// Without CAP_PERFMON the verifier is stricter, and what it refuses differs from kernel to kernel.
		return &capture.MissingCapabilityError{Capability: "cap_perfmon", Doing: doing, Err: fmt.Errorf("%w: %w", unix.EPERM, err)}
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// forbidden returns an error that says why a process that has the capability may not use the bpf system call.
func forbidden(memlockErr error) error {
	var limit unix.Rlimit
	if memlockErr != nil && Before(5, 11) && unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit) == nil && limit.Cur != unix.RLIM_INFINITY {
		return lockedTooLittle(limit.Cur, memlockErr)
	}
	return fmt.Errorf("%s: %w: the process has the capability, but something else forbids it, such as a container's seccomp profile, "+
		"its user namespace, or lockdown", doing, unix.EPERM)
}

// lockedTooLittle is the error of kernels that count maps and programs as locked memory. limit is in bytes.
func lockedTooLittle(limit uint64, err error) error {
	return &capture.MissingCapabilityError{
		Capability: "cap_sys_resource",
		Doing: fmt.Sprintf("%s: kernels before 5.11 count it as locked memory, and the limit here is %s: raise it "+
			"(ulimit -l unlimited, LimitMEMLOCK=infinity in a unit, --ulimit=memlock=-1 of a container)", doing, size(limit)),
		Err: err,
	}
}

func noRoom(table *capture.Table, err error) error {
	labels := ""
	if series := table.SeriesLimit(); series > 0 {
		labels = fmt.Sprintf(" and %d combinations of labels (see --max-series)", series)
	}
	return fmt.Errorf("%s: the kernel has no room for %d addresses (see --max-ips)%s%s: %w", doing, table.Limit(), labels, machine(), err)
}

func lacks(what string, err error) error {
	return fmt.Errorf("%s: this kernel lacks %s (%w): %w", doing, what, err, errors.ErrUnsupported)
}

// hasCapability tells whether the thread has a capability.
func hasCapability(c cap.Value) bool { return grantedBy(c) != "" }

// grantedBy returns the name of the capability by which the thread has one: itself, or CAP_SYS_ADMIN, of which it once was a part. It is empty if
// the thread has neither.
func grantedBy(c cap.Value) string {
	thread := cap.GetProc()
	for _, by := range []cap.Value{c, cap.SYS_ADMIN} {
		if has, err := thread.GetFlag(cap.Effective, by); err == nil && has { // an old kernel may not know it
			return by.String()
		}
	}
	return ""
}
