// Package frametest has frames with known results, for tests of package frame and of other implementations.
package frametest

import (
	"slices"
	"testing"

	"github.com/google/gopacket"

	"promflow/capture/frame"
)

// Case is a frame and what it counts as.
type Case struct {
	Name string
	In   frame.Frame
	Want frame.Packet
}

// collector collects cases whose names begin with a prefix.
type collector struct {
	t      testing.TB
	prefix string
	cases  []Case
}

func (c *collector) frame(name string, f frame.Frame, want frame.Packet) {
	c.cases = append(c.cases, Case{c.prefix + name, f, want})
}

// add adds a frame that was captured as a whole.
func (c *collector) add(name string, link frame.Link, data []byte, want frame.Packet) {
	c.frame(name, frame.Frame{Link: link, Data: data, Wire: len(data)}, want)
}

func (c *collector) eth(name string, want frame.Packet, layers ...gopacket.SerializableLayer) {
	c.add(name, frame.LinkEthernet, Build(c.t, layers...), want)
}

// DecodeCases has LinkCases, EthernetCases, InsideCases, HeaderCases, VLANCases and ProtocolCases.
func DecodeCases(t testing.TB) []Case {
	return slices.Concat(LinkCases(t), EthernetCases(t), InsideCases(t), HeaderCases(t), VLANCases(t), ProtocolCases(t))
}
