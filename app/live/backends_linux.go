package live

import (
	"promflow/capture"
	"promflow/capture/backend/afpacket"
	"promflow/capture/backend/ebpf"
)

// backends lists the capture backends of this system in the order in which --capture=auto tries them.
var backends = []capture.Backend{
	ebpf.Backend,
	afpacket.Backend,
}
