// Package npcap counts the packets of a Windows interface in user space. It uses Npcap (https://npcap.com), a driver that users install,
// and package pcap of gopacket, which loads Npcap's wpcap.dll at the start of the program. Without the DLL this backend is unsupported. A
// DLL that lacks a function, such as that of an old WinPcap, would end the program. Without cgo, package pcap is for amd64 only.
//
// The driver copies the first [SnapLen] bytes of every frame, which is room for the headers, into a buffer. It hands the buffer over once
// it has enough or a tenth of a second is over: totals lag behind the wire by that time.
//
//   - Npcap names an interface by its GUID, which Windows has for the index of "Ethernet" or "Wi-Fi". The loopback interface is a device of
//     its own, and has each packet once.
//   - Npcap tells the link layer. An interface with one that package frame does not support is not captured, and the error has its number.
//   - A merged segment (LSO, RSC) counts as one packet: Npcap does not tell its packets, so that the bytes of their further headers are
//     missing.
//   - When the capture on an interface ends before promflow does, for example because it is renamed, the packets in the driver are lost.
//   - An interface that cannot be made promiscuous is captured without, and the log says so.
//   - The driver drops and counts packets for which the buffer has no room.
//
// This follows the documentation and sources of Npcap, libpcap and gopacket. It compiles, and has never been run.
package npcap

import "promflow/capture"

// Backend is the list entry of this package.
var Backend = capture.Backend{Name: "npcap", Open: open}

// SnapLen is the snap length: link headers with two VLAN tags, the IP header and extension headers fit.
const SnapLen = 192
