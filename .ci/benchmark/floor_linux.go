package main

import (
	"encoding/binary"
	"fmt"
	"runtime"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"promflow/.ci/watched"
	"promflow/capture/nettest"
)

// floor attaches to an interface of this thread's namespace as a tool does, and does nothing with its packets: this is what any such tool costs
// at the least.
type floor func(t nettest.TB, index int) error

// openFloor attaches a floor to the receiving end of the link.
func openFloor(t nettest.TB, l *nettest.Link, attach floor) {
	index := l.Receiver.Interface(nettest.Receiving).Index
	if err := l.Receiver.Do(func() error { return attach(t, index) }); err != nil {
		t.Fatal(&watched.Refusal{Reason: err.Error()})
	}
}

// attachSocket opens a packet socket whose filter takes no packet.
func attachSocket(t nettest.TB, index int) error {
	// With protocol 0 the socket receives nothing until it is bound.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening a packet socket: %w", err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	program, err := bpf.Assemble([]bpf.Instruction{bpf.RetConstant{Val: 0}})
	if err != nil {
		return err
	}
	filter := unix.SockFilter{Code: program[0].Op, K: program[0].K}
	err = unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &filter})
	runtime.KeepAlive(&filter)
	if err != nil {
		return fmt.Errorf("attaching a filter that takes nothing to a packet socket: %w", err)
	}
	return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: networkOrder(unix.ETH_P_ALL), Ifindex: index})
}

// networkOrder gives a number as it has to be stored for its bytes to be in network order.
func networkOrder(n uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, n))
}

// What programs return, linux/bpf.h.
const (
	xdpDrop = 1
	xdpPass = 2
	tcxNext = -1
)

// attachXDP has the driver run a program on what the interface receives that does the same with each frame.
func attachXDP(verdict int32) floor {
	return attachProgram(ebpf.XDP, verdict, func(p *ebpf.Program, index int) (link.Link, error) {
		return link.AttachXDP(link.XDPOptions{Program: p, Interface: index, Flags: link.XDPDriverMode})
	})
}

// attachTCX attaches a program to what the interface sends that lets it pass.
func attachTCX() floor {
	return attachProgram(ebpf.SchedCLS, tcxNext, func(p *ebpf.Program, index int) (link.Link, error) {
		return link.AttachTCX(link.TCXOptions{Program: p, Interface: index, Attach: ebpf.AttachTCXEgress})
	})
}

// attachProgram attaches a program that returns a verdict and does no more.
func attachProgram(kind ebpf.ProgramType, verdict int32, attach func(p *ebpf.Program, index int) (link.Link, error)) floor {
	return func(t nettest.TB, index int) error {
		program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: kind, Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, verdict), asm.Return()}})
		if err != nil {
			return fmt.Errorf("loading an eBPF program: %w", err)
		}
		defer program.Close() // the link holds it
		l, err := attach(program, index)
		if err != nil {
			return fmt.Errorf("attaching an eBPF program: %w", err)
		}
		t.Cleanup(func() { l.Close() })
		return nil
	}
}
