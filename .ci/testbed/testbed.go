// Package testbed is what the examples that measure promflow do so on: a link between two network namespaces, packets that go
// in at one end, as fast as the kernel can make them or paced, and programs that watch the other end.
package testbed

// HeaderSize is that of Ethernet: bytes of a frame that are not counted.
const HeaderSize = 14
