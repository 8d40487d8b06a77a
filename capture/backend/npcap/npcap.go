// Package npcap counts the packets of a Windows interface in user space, with Npcap (https://npcap.com), a driver that its user has to
// install, and package pcap of gopacket, which loads Npcap's wpcap.dll at the start of the program. Where that is missing, only this
// backend is, too; one that lacks a function, as of an old WinPcap, would end the program. Without cgo, package pcap is for amd64 only.
//
// The driver copies the first [SnapLen] bytes of every frame, which is room for the headers, into a buffer, and hands that over once
// there is some of it or a tenth of a second is over: so the page lags behind the wire by as much.
//
//   - Npcap knows an interface by its GUID, which Windows gives for the index of what it calls "Ethernet" or "Wi-Fi". The loopback
//     interface is a device of its own, and has each packet once.
//   - The link layer is the one that Npcap says. An interface of one that package frame does not know is not captured, and the error
//     has its number.
//   - What is merged (LSO, RSC) is one packet to Npcap, which does not say of how many: the headers that it has in all but the first
//     on the wire are missing from its bytes.
//   - What the driver holds for an interface when its capture ends before promflow does, as when it gets another name, is lost.
//   - An interface that cannot be made promiscuous is captured all the same, and the log says so.
//   - Packets for which the buffer had no room are dropped by the driver, which counts them.
//
// That is from the documentation and sources of Npcap, libpcap and gopacket. It compiles, and has never been run.
package npcap

import "promflow/capture"

// Backend is the list entry of this package.
var Backend = capture.Backend{Name: "npcap", Open: open}

// SnapLen is how many bytes of a frame are looked at: link headers with two VLAN tags and the IP header fit, with room to spare for
// extension headers.
const SnapLen = 192
