package kernel

import (
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"promflow/capture"
	"promflow/capture/nettest"
	"promflow/capture/subnets"
)

// openFor opens the backend for limit addresses, which are in a hash map.
func openFor(limit int) error {
	monitored, err := subnets.Parse("0.0.0.0/0")
	if err != nil {
		return err
	}
	c := capture.Config{Table: capture.NewTable(limit, 0).Monitor(capture.Subnets{Monitored: monitored}), Log: slog.New(slog.DiscardHandler)}
	p, err := load(c, 1, Sockets)
	if err != nil {
		return err
	}
	return p.close()
}

func TestTooManyAddresses(t *testing.T) {
	nettest.NeedRoot(t)
	err := openFor(1 << 30)
	if err == nil || !strings.Contains(err.Error(), "1073741824 addresses (see --max-ips)") || !strings.Contains(err.Error(), " processors") {
		t.Errorf("the error is %v", err)
	}
}

// bpfFails tells a test process that the bpf system call is to fail.
const bpfFails = "PROMFLOW_TEST_BPF_FAILS"

// TestBPFIsRefused has the kernel refuse the bpf system call, as a kernel without it and a container's seccomp profile do.
func TestBPFIsRefused(t *testing.T) {
	nettest.NeedRoot(t)
	for _, c := range []struct {
		name  string
		errno unix.Errno
		is    error
		says  string
	}{
		{"by a kernel without it", unix.ENOSYS, errors.ErrUnsupported, "this kernel lacks the bpf system call (CONFIG_BPF_SYSCALL)"},
		{"by a seccomp profile", unix.EPERM, os.ErrPermission, "the process has the capability, but something else forbids it"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if os.Getenv(bpfFails) != "" {
				refuseBPF(t, c.errno)
				err := openFor(10)
				if !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) || errors.As(err, new(*capture.MissingCapabilityError)) {
					t.Errorf("the error is %v", err)
				}
				return
			}
			// A process cannot remove its seccomp filter: the test runs in a process of its own.
			cmd := exec.Command("/proc/self/exe", "-test.run=^"+strings.ReplaceAll(t.Name(), "/", "$/^")+"$", "-test.v")
			cmd.Env = append(os.Environ(), bpfFails+"=1")
			if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
				t.Errorf("%v:\n%s", err, out)
			}
		})
	}
}

// refuseBPF makes the bpf system call fail in every thread of this process (seccomp(2)).
func refuseBPF(t *testing.T, errno unix.Errno) {
	t.Helper()
	program, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: 0, Size: 4}, // the number of the system call in struct seccomp_data
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.SYS_BPF, SkipTrue: 1},
		bpf.RetConstant{Val: unix.SECCOMP_RET_ERRNO | uint32(errno)},
		bpf.RetConstant{Val: unix.SECCOMP_RET_ALLOW},
	})
	if err != nil {
		t.Fatal(err)
	}
	var filter []unix.SockFilter
	for _, i := range program {
		filter = append(filter, unix.SockFilter{Code: i.Op, Jt: i.Jt, Jf: i.Jf, K: i.K})
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	const operation, flags = unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC
	_, _, failed := unix.Syscall(unix.SYS_SECCOMP, operation, flags, uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(filter)
	if failed != 0 {
		t.Fatal("seccomp:", failed)
	}
}
