package nettest

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

func TestBack(t *testing.T) {
	l := NewLink(t)
	Check(t, l.Back(func() error {
		var cpus unix.CPUSet
		if err := unix.SchedGetaffinity(0, &cpus); err != nil {
			return err
		}
		if cpus != *l.Sender.cpu {
			t.Errorf("it runs on %v, and the sender on %v", cpus, *l.Sender.cpu)
		}
		_, err := net.InterfaceByName(Receiving)
		return err
	}))
}
