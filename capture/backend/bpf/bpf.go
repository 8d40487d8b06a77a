// Package bpf counts the packets of an interface of macOS, FreeBSD or OpenBSD in user space, from a device of bpf(4), the Berkeley
// Packet Filter. It needs the right to read /dev/bpf or /dev/bpf0, /dev/bpf1 and so on, as root has it.
//
// The kernel copies the first [SnapLen] bytes of every frame, which is room for the headers, into a buffer. It hands the buffer over once
// it is full or a read has waited for a tenth of a second: totals lag behind the wire by that time.
//
//   - The device tells the link layer (BIOCGDLT). An interface with one that package frame does not support is not captured, and the
//     error has its number.
//   - By default a device captures received and sent packets, and on lo0 each packet once (BIOCSSEESENT on macOS and FreeBSD, BIOCSDIRFILT
//     on OpenBSD).
//   - The kernel may refuse an interface that is down. It is captured once it is up: package watch polls for that.
//   - A merged segment (TSO, LRO) counts as one packet: bpf(4) does not tell its packets, so that the bytes of their further headers are
//     missing.
//   - The kernel drops and counts packets for which the buffer has no room.
//   - An interface that cannot be made promiscuous, such as a tunnel, is captured without, and the log says so.
//
// This follows the manual pages and sources of the three systems. It compiles for them, and has never been run.
package bpf

import "promflow/capture"

// Backend is the list entry of this package.
var Backend = capture.Backend{Name: "bpf", Open: open}

// SnapLen is the snap length: link headers with two VLAN tags, the IP header and extension headers fit.
const SnapLen = 192
