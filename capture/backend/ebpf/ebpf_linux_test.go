package ebpf_test

import (
	"testing"

	"promflow/capture/backend/ebpf"
	"promflow/capture/capturetest"
)

func TestBackend(t *testing.T) { capturetest.Run(t, ebpf.Backend) }
