// Package frametest has frames with known answers, for the tests of package frame and of what must agree with it.
package frametest

import (
	"slices"
	"testing"

	"promflow/capture/frame"
)

// Case is a frame and what it counts for.
type Case struct {
	Name string
	In   frame.Frame
	Want frame.Packet
}

// DecodeCases are those of LinkCases, HeaderCases, VLANCases and ProtocolCases.
func DecodeCases(t testing.TB) []Case {
	return slices.Concat(LinkCases(t), HeaderCases(t), VLANCases(t), ProtocolCases(t))
}
