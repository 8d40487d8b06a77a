//go:build !linux && !windows

package live

import (
	"promflow/capture"
	"promflow/capture/backend/bpf"
)

// backends are those of this system, in the order in which Automatic tries them.
var backends = []capture.Backend{
	bpf.Backend,
}

// onRequest are those that Automatic never takes.
var onRequest []capture.Backend
