package nettest

import (
	"golang.org/x/sys/unix"
)

// The ends of a link.
const (
	Sending   = "send0"
	Receiving = "receive0"
)

// Link is a veth pair between two namespaces: packets go in at one end, programs watch what comes out of the other.
type Link struct {
	Sender, Receiver *Namespace
	OneCPU           bool // there is only one, which both have to share
}

// NewLink makes a link whose sender, and with it the path up to the sockets of the receiving end, runs on one processor, and the programs
// at the receiving end on another. It needs root, ip(8) and ethtool(8).
func NewLink(t TB) *Link {
	t.Helper()
	Need(t, "ethtool")
	send, receive := pickCPUs(t)
	l := &Link{NewNamespace(t), NewNamespace(t), send == receive}
	l.Sender.cpu, l.Receiver.cpu = new(unix.CPUSet), new(unix.CPUSet)
	l.Sender.cpu.Set(send)
	l.Receiver.cpu.Set(receive)
	l.Sender.Veth(Sending, l.Receiver, Receiving)
	l.Receiver.Run("ethtool", "-K", Receiving, "gro", "on") // without, the driver has no queue for XDP frames, and drops them
	return l
}

// Received gives how many packets have come out of the link.
func (l *Link) Received() int64 {
	l.Receiver.t.Helper()
	return l.Receiver.Counters(Receiving).Received
}

// Back calls f on a thread in the receiving namespace, but on the sender's processor: for packets that go the other way. They can leave.
func (l *Link) Back(f func() error) error {
	return l.Receiver.Do(func() error {
		_, err := awaitQueue(Receiving)
		if err == nil {
			err = unix.SchedSetaffinity(0, l.Sender.cpu)
		}
		if err == nil {
			err = f()
		}
		return err
	})
}
