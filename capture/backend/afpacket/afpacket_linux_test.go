package afpacket_test

import (
	"testing"

	"promflow/capture/backend/afpacket"
	"promflow/capture/capturetest"
)

func TestBackend(t *testing.T) { capturetest.Run(t, afpacket.Backend) }
