package nettest

import (
	"encoding/binary"
	"errors"
	"net"
	"slices"

	"golang.org/x/sys/unix"
)

// PPPoE is a session of a namespace, without a server: its ppp device is called ppp0.
type PPPoE struct {
	header []byte // of frames to it
}

const pppoeSession = 42

// NewPPPoE makes a session by an Ethernet device with whoever sends from the address. It skips the test if the kernel has no PPPoE.
func NewPPPoE(n *Namespace, device string, from net.HardwareAddr) *PPPoE {
	n.t.Helper()
	const newUnit = 0xc004743e // PPPIOCNEWUNIT of linux/ppp-ioctl.h, which golang.org/x/sys/unix does not have
	var files []int
	n.t.Cleanup(func() {
		for _, fd := range files {
			unix.Close(fd)
		}
	})
	err := n.Do(func() error {
		open := func(fd int, err error) int {
			if err != nil {
				KernelLacks(n.t, "PPPoE: "+err.Error())
			}
			files = append(files, fd)
			return fd
		}
		session := open(unix.Socket(unix.AF_PPPOX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0))
		line := open(unix.Open("/dev/ppp", unix.O_RDWR|unix.O_CLOEXEC, 0))
		unit := open(unix.Open("/dev/ppp", unix.O_RDWR|unix.O_CLOEXEC, 0))
		if err := unix.Connect(session, &unix.SockaddrPPPoE{SID: pppoeSession, Remote: from, Dev: device}); err != nil {
			return err
		}
		channel, err := unix.IoctlGetInt(session, unix.PPPIOCGCHAN)
		return errors.Join(err, unix.IoctlSetPointerInt(line, unix.PPPIOCATTCHAN, channel), unix.IoctlSetPointerInt(unit, newUnit, 0),
			unix.IoctlSetPointerInt(line, unix.PPPIOCCONNECT, 0))
	})
	Check(n.t, err)
	n.IP("link", "set", "ppp0", "up")
	var to net.HardwareAddr
	Check(n.t, n.Do(func() error {
		i, err := net.InterfaceByName(device)
		if err == nil {
			to = i.HardwareAddr
		}
		return err
	}))
	return &PPPoE{slices.Concat(to, from, []byte{0x88, 0x64, 0x11, 0})}
}

// Frame returns an Ethernet frame of the session with an IPv4 packet, from an Ethernet frame with that.
func (p *PPPoE) Frame(ethernet []byte) []byte {
	const ipv4 = 0x0021 // as PPP numbers it
	packet := ethernet[14:]
	b := binary.BigEndian.AppendUint16(slices.Clone(p.header), pppoeSession)
	b = binary.BigEndian.AppendUint16(b, uint16(2+len(packet)))
	return append(binary.BigEndian.AppendUint16(b, ipv4), packet...)
}
