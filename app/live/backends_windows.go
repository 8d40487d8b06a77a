package live

import (
	"promflow/capture"
	"promflow/capture/backend/npcap"
)

// backends are those of this system, in the order in which Automatic tries them.
var backends = []capture.Backend{
	npcap.Backend,
}

// onRequest are those that Automatic never takes.
var onRequest []capture.Backend
