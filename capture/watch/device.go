package watch

import "promflow/capture"

// device is an interface of this machine.
type device struct {
	capture.Interface
	up     bool
	master int // the bridge or bond that it is a port of; 0 is none
	parent int // the device that has the same packets, as a VLAN's; 0 is none, or one in another network namespace
}

// news is what has happened to a device.
type news struct {
	device
	gone bool
	anew bool // it was deleted, and its index has been given away again
}
