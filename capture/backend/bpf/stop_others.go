//go:build darwin || freebsd

package bpf

import "golang.org/x/sys/unix"

// stop has the device take no more frames. Unlike BIOCSETF, this leaves it those that it holds.
func (d *device) stop() error { return d.filter("BIOCSETFNR", unix.BIOCSETFNR, 0) }
