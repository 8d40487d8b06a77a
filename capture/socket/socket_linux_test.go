package socket

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"promflow/capture/nettest"
)

// TestOutgoingIsIgnoredOnLoopbackOnly moves a socket between interfaces.
func TestOutgoingIsIgnoredOnLoopbackOnly(t *testing.T) {
	here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
	here.Veth("a0", there, "a0")
	var s *Socket
	if err := here.Do(func() (err error) {
		s, err = Open(Raw)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, name := range []string{"a0", "lo", "lo", "a0", "a0", "lo"} {
		if err := s.Attach(here.Interface(name), false); err != nil {
			t.Fatal(err)
		}
		got, err := unix.GetsockoptInt(s.FD, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING)
		if err != nil {
			t.Fatal(err)
		}
		want := 0
		if name == "lo" {
			want = 1
		}
		if got != want {
			t.Errorf("on %s PACKET_IGNORE_OUTGOING is %d, want %d", name, got, want)
		}
	}
}

// TestKernelWithoutIgnoreOutgoing attaches where the kernel does not know PACKET_IGNORE_OUTGOING, as before 4.20.
func TestKernelWithoutIgnoreOutgoing(t *testing.T) {
	here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
	here.Veth("a0", there, "a0")
	a0, lo := here.Interface("a0"), here.Interface("lo")
	if err := here.Do(func() error { // on a thread of its own
		if err := refuseIgnoreOutgoing(); err != nil {
			return err
		}
		s, err := Open(Raw)
		if err != nil {
			return err
		}
		defer s.Close()
		if err := s.Attach(lo, false); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("attaching to lo: %v, want that this kernel lacks something", err)
		}
		return s.Attach(a0, false)
	}); err != nil {
		t.Error(err)
	}
}

// refuseIgnoreOutgoing has setsockopt(2) not know PACKET_IGNORE_OUTGOING in this thread, for good (seccomp(2)).
func refuseIgnoreOutgoing() error {
	const argument = 16 // offset of the first one in struct seccomp_data
	low := uint32(0)    // offset of the low half of one
	if binary.NativeEndian.Uint16([]byte{0, 1}) == 1 {
		low = 4
	}
	program, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: 0, Size: 4}, // the number of the system call
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.SYS_SETSOCKOPT, SkipTrue: 5},
		bpf.LoadAbsolute{Off: argument + 8 + low, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.SOL_PACKET, SkipTrue: 3},
		bpf.LoadAbsolute{Off: argument + 16 + low, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.PACKET_IGNORE_OUTGOING, SkipTrue: 1},
		bpf.RetConstant{Val: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOPROTOOPT)},
		bpf.RetConstant{Val: unix.SECCOMP_RET_ALLOW},
	})
	if err != nil {
		return err
	}
	var filter []unix.SockFilter
	for _, i := range program {
		filter = append(filter, unix.SockFilter{Code: i.Op, Jt: i.Jt, Jf: i.Jf, K: i.K})
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	_, _, failed := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(filter)
	if failed != 0 {
		return failed
	}
	return nil
}

// TestHold makes interfaces promiscuous one after the other, and receives nothing.
func TestHold(t *testing.T) {
	here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
	here.Veth("a0", there, "a0")
	here.Veth("a1", there, "a1")
	var s *Socket
	nettest.Check(t, here.Do(func() (err error) {
		s, err = Open(Raw)
		return err
	}))
	defer s.Close()
	is := func(name, want string) {
		t.Helper()
		if out := here.IP("-d", "link", "show", name); !strings.Contains(out, "promiscuity "+want+" ") {
			t.Errorf("want promiscuity %s: %s", want, out)
		}
	}
	for range 2 {
		for _, name := range []string{"a0", "a1"} {
			if err := s.Hold(here.Interface(name), true); err != nil {
				t.Fatal(err)
			}
			is(name, "1")
			if !s.Up() {
				t.Errorf("not up on %s", name)
			}
			nettest.NewSender(t, there, name).Send(nettest.UDP(netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), 100))
			if n, _, err := unix.Recvfrom(s.FD, make([]byte, 2000), unix.MSG_DONTWAIT); err == nil {
				t.Errorf("%d bytes were received on %s", n, name)
			}
		}
		is("a0", "0")
	}
	nettest.Check(t, s.Detach())
	is("a1", "0")
	if s.Up() {
		t.Error("up without an interface")
	}
	nettest.Check(t, s.Hold(here.Interface("a0"), true))
	here.IP("link", "del", "a0")
	if s.Up() {
		t.Error("up on an interface that was deleted")
	}
	nettest.Check(t, s.Hold(here.Interface("a1"), true))
	here.IP("link", "set", "a1", "netns", there.Name, "name", "b1")
	if s.Up() {
		t.Error("up on an interface that is in another namespace")
	}
}
