//go:build !linux && !windows

package live

import (
	"promflow/capture"
	"promflow/capture/backend/bpf"
)

// backends lists the capture backends of this system in the order in which --capture=auto tries them.
var backends = []capture.Backend{
	bpf.Backend,
}
