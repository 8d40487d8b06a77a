package xdp_test

import (
	"testing"

	"promflow/capture"
	"promflow/capture/backend/xdp"
	"promflow/capture/capturetest"
)

func TestBackend(t *testing.T) { capturetest.RunOnEthernet(t, xdp.Backend) }

// TestBackendAtAMirrorPort drops nearly all that arrives, and counts the same.
func TestBackendAtAMirrorPort(t *testing.T) {
	b := xdp.Backend
	b.Open = func(c capture.Config, interfaces int) (capture.Capture, error) {
		c.Mirror = true
		return xdp.Backend.Open(c, interfaces)
	}
	capturetest.RunOnEthernet(t, b)
}
