package bpf

import "golang.org/x/sys/unix"

// Directions that are left out (net/bpf.h).
const (
	directionIn  = 1 << 0
	directionOut = 1 << 1
)

// stop has the device take no more frames. A filter that takes none would have the kernel forget those that it holds.
func (d *device) stop() error {
	none := uint32(directionIn | directionOut)
	return ioctl(d.fd, "BIOCSDIRFILT", unix.BIOCSDIRFILT, &none)
}
