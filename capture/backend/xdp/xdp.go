// Package xdp counts the packets of a Linux interface inside the kernel, by the program of package kernel: what arrives in XDP, in the
// interface's driver, and what the machine sends at tcx's egress, or where the kernel has no tcx (before Linux 6.6), by the filter of a
// packet socket that looks at nothing else.
//
// With capture.Config.Mirror, what is for other machines is dropped once it was counted. Such frames are all that a mirror port has, and
// the kernel would make a socket buffer of each to throw it away.
//
// The driver must have XDP of its own (native mode): generic mode is slower than package ebpf.
package xdp
