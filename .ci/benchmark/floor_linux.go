package main

import (
	"encoding/binary"
	"fmt"
	"runtime"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"promflow/capture/nettest"
)

// openFloor watches the receiving end of the link with a packet socket whose filter takes no packet. This is what any
// capture on a packet socket costs at the least.
func openFloor(t nettest.TB, l *nettest.Link) {
	index := l.Receiver.Interface(nettest.Receiving).Index
	err := l.Receiver.Do(func() error {
		// With protocol 0 the socket receives nothing until it is bound.
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
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
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: networkOrder(unix.ETH_P_ALL), Ifindex: index})
	})
	if err != nil {
		t.Fatal(fmt.Errorf("opening a packet socket that takes nothing: %w", err))
	}
}

// networkOrder gives a number as it has to be stored for its bytes to be in network order.
func networkOrder(n uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, n))
}
