//go:build darwin || freebsd

package bpf

import "golang.org/x/sys/unix"

// stop makes the device take no more frames. Unlike BIOCSETF, BIOCSETFNR keeps the frames in the kernel's buffers.
func (d *device) stop() error { return d.filter("BIOCSETFNR", unix.BIOCSETFNR, 0) }
