package bpf

import "golang.org/x/sys/unix"

// Directions that a device can ignore (net/bpf.h).
const (
	directionIn  = 1 << 0
	directionOut = 1 << 1
)

// stop makes the device take no more frames. To set a filter would make the kernel drop the frames in its buffers.
func (d *device) stop() error {
	none := uint32(directionIn | directionOut)
	return ioctl(d.fd, "BIOCSDIRFILT", unix.BIOCSDIRFILT, &none)
}
