package nettest

import (
	"fmt"
	"math/bits"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// SendTagged sends a frame several times with a VLAN tag beside it, as a VLAN device does: the driver is to put it into the frame. Where the
// kernel has no VLAN devices, an eBPF program adds the tag (Linux 6.6).
func (n *Namespace) SendTagged(device string, id uint16, frame []byte, times int) {
	n.t.Helper()
	name := fmt.Sprint("v", id)
	out, err := n.Command("ip", "link", "add", name, "link", device, "type", "vlan", "id", fmt.Sprint(id)).CombinedOutput()
	if err == nil {
		n.IP("link", "set", name, "up")
		device = name
	} else if strings.Contains(string(out), "Unknown device type") {
		defer n.tagAll(device, id)()
	} else {
		n.t.Fatal(fmt.Errorf("adding a VLAN device: %w: %s", err, out))
	}
	s := NewSender(n.t, n, device)
	for range times {
		s.Send(frame)
	}
}

// tagAll has all frames that leave by a device get a VLAN tag, until it is called off.
func (n *Namespace) tagAll(device string, id uint16) (end func()) {
	n.t.Helper()
	const next = -1 // TCX_NEXT of linux/bpf.h
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{
		asm.Mov.Imm(asm.R2, int32(bits.ReverseBytes16(unix.ETH_P_8021Q))),
		asm.Mov.Imm(asm.R3, int32(id)),
		asm.FnSkbVlanPush.Call(),
		asm.Mov.Imm(asm.R0, next),
		asm.Return(),
	}})
	Check(n.t, err)
	defer program.Close()
	var attached link.Link
	index := n.Interface(device).Index
	Check(n.t, n.Do(func() (err error) {
		attached, err = link.AttachTCX(link.TCXOptions{Interface: index, Program: program, Attach: ebpf.AttachTCXEgress, Anchor: link.Head()})
		return err
	}))
	return func() { Check(n.t, attached.Close()) }
}
