package live

import (
	"promflow/capture"
	"promflow/capture/backend/afpacket"
	"promflow/capture/backend/ebpf"
	"promflow/capture/backend/xdp"
)

// backends are those of this system, in the order in which Automatic tries them.
var backends = []capture.Backend{
	ebpf.Backend,
	afpacket.Backend,
}

// onRequest are those that Automatic never takes.
var onRequest = []capture.Backend{xdp.Backend}
