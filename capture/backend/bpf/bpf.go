// Package bpf counts the packets of an interface of macOS, FreeBSD or OpenBSD in user space, from a device of bpf(4), the Berkeley
// Packet Filter. It needs to read /dev/bpf or /dev/bpf0, /dev/bpf1 and so on: root may, and who the administrator says.
//
// The kernel copies the first [SnapLen] bytes of every frame, which is room for the headers, into a buffer, and hands that over once
// it is full or a read has waited for a tenth of a second: so the page lags behind the wire by as much.
//
//   - The link layer is the one that the device says (BIOCGDLT). An interface of one that package frame does not know is not
//     captured, and the error has its number.
//   - A device sees what is received and what is sent, and on lo0 each packet once, if nobody says otherwise (BIOCSSEESENT on macOS
//     and FreeBSD, BIOCSDIRFILT on OpenBSD).
//   - An interface that is down may be refused. It is captured once it is up, and package watch looks for that each second.
//   - What is merged (TSO, LRO) is one packet to bpf(4), which does not say of how many: the headers that it has in all but the first
//     on the wire are missing from its bytes.
//   - Packets for which the buffer had no room are dropped by the kernel, which counts them.
//   - An interface that cannot be made promiscuous, such as a tunnel, is captured all the same, and the log says so.
//
// That is from the manual pages and sources of the three systems. It compiles for them, and has never been run.
package bpf

import "promflow/capture"

// Backend is the list entry of this package.
var Backend = capture.Backend{Name: "bpf", Open: open}

// SnapLen is how many bytes of a frame are looked at: link headers with two VLAN tags and the IP header fit, with room to spare for
// extension headers.
const SnapLen = 192
