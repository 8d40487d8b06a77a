package ebpf

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/features"
	"golang.org/x/sys/unix"

	"promflow/capture"
)

const doing = "loading an eBPF socket filter"

// needs is what a kernel must have, with the version of Linux that brought it.
var needs = []struct {
	what  string
	probe func() error
}{
	{"eBPF socket filters (Linux 3.19)", func() error { return features.HaveProgramType(ebpf.SocketFilter) }},
	{"eBPF maps that are stacks (Linux 4.20)", func() error { return features.HaveMapType(ebpf.Stack) }},
	{"eBPF maps that can be mapped into memory (Linux 5.5)", func() error { return features.HaveMapFlag(features.BPF_F_MMAPABLE) }},
}

// explain tells why the program could not be loaded for a table, where memlockErr is why the limit of locked memory could not be
// raised.
func explain(err error, table *capture.Table, memlockErr error) error {
	// The verifier's errors come as others, too: EFAULT is what one says that breaks down.
	refused := errors.As(err, new(*ebpf.VerifierError)) && !errors.Is(err, unix.ENOMEM) || errors.Is(err, unix.EFAULT)
	if able, capErr := has(unix.CAP_BPF, unix.CAP_SYS_ADMIN); capErr == nil && !able {
		return &capture.MissingCapabilityError{Capability: "cap_bpf", Doing: doing, Err: unix.EPERM}
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
	refused = refused && !errors.Is(err, unix.EINVAL)
	if able, capErr := has(unix.CAP_PERFMON, unix.CAP_SYS_ADMIN); refused && capErr == nil && !able {
		// The verifier is stricter then, and not of one mind from kernel to kernel.
		return &capture.MissingCapabilityError{Capability: "cap_perfmon", Doing: doing, Err: fmt.Errorf("%w: %w", unix.EPERM, err)}
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// forbidden tells why the bpf system call is not allowed to a process that has the capability.
func forbidden(memlockErr error) error {
	var limit unix.Rlimit
	if memlockErr != nil && kernelBefore(5, 11) && unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit) == nil && limit.Cur != unix.RLIM_INFINITY {
		return lockedTooLittle(limit.Cur, memlockErr)
	}
	return fmt.Errorf("%s: %w: something forbids it to a process that has the capability, such as a container's seccomp profile, its user namespace, or lockdown",
		doing, unix.EPERM)
}

// lockedTooLittle is for kernels that count maps and programs as locked memory, of which there may be so many bytes.
func lockedTooLittle(limit uint64, err error) error {
	return &capture.MissingCapabilityError{
		Capability: "cap_sys_resource",
		Doing: fmt.Sprintf("%s: kernels before 5.11 count it as locked memory, of which there may be %s here: let there be more "+
			"(ulimit -l unlimited, LimitMEMLOCK=infinity in a unit, --ulimit=memlock=-1 of a container)", doing, size(limit)),
		Err: err,
	}
}

func noRoom(table *capture.Table, err error) error {
	labels := ""
	if series := table.SeriesLimit(); series > 0 {
		labels = fmt.Sprintf(" and %d combinations of labels (see --max-series)", series)
	}
	return fmt.Errorf("%s: the kernel has no room for %d addresses (see --max-ips)%s%s: %w", doing, table.Limit(), labels, room(), err)
}

func lacks(what string, err error) error {
	return fmt.Errorf("%s: this kernel lacks %s (%w): %w", doing, what, err, errors.ErrUnsupported)
}

// has tells whether the thread has one of the capabilities.
func has(capabilities ...int) (bool, error) {
	var data [2]unix.CapUserData
	if err := unix.Capget(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &data[0]); err != nil {
		return false, fmt.Errorf("reading capabilities: %w", err)
	}
	for _, c := range capabilities {
		if data[c/32].Effective&(1<<(c%32)) != 0 {
			return true, nil
		}
	}
	return false, nil
}
