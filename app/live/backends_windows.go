package live

import (
	"promflow/capture"
	"promflow/capture/backend/npcap"
)

// backends lists the capture backends of this system in the order in which --capture=auto tries them.
var backends = []capture.Backend{
	npcap.Backend,
}
