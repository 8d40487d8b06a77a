package xdp_test

import (
	"testing"

	"promflow/capture/backend/xdp"
	"promflow/capture/capturetest"
)

func TestBackend(t *testing.T) { capturetest.RunOnEthernet(t, xdp.Backend) }
