package ebpf_test

import (
	"testing"

	"promflow/capture/capturetest"
	"promflow/capture/ebpf"
)

func TestBackend(t *testing.T) { capturetest.Run(t, ebpf.Backend) }
