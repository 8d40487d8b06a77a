// Package frametest has frames with known results, for tests of package frame and of other implementations.
package frametest

import (
	"slices"
	"testing"

	"promflow/capture/frame"
)

// Case is a frame and what it counts as.
type Case struct {
	Name string
	In   frame.Frame
	Want frame.Packet
}

// DecodeCases has LinkCases, HeaderCases, VLANCases and ProtocolCases.
func DecodeCases(t testing.TB) []Case {
	return slices.Concat(LinkCases(t), HeaderCases(t), VLANCases(t), ProtocolCases(t))
}
