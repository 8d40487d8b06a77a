package watch

import "promflow/capture"

// device is an interface of this machine.
type device struct {
	capture.Interface
	up     bool
	master int // index of the bridge or bond that it is a port of, 0 for none
	parent int // index of the device that sends the same packets, as for a VLAN; 0 for none, or for one in another network namespace
}

// news is a report of a device.
type news struct {
	device
	gone bool
	anew bool // it may have been made anew since the last report, with the same index
}
