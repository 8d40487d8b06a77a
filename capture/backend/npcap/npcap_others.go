//go:build !windows || !amd64

package npcap

import "promflow/capture"

var open = capture.Unsupported("Npcap needs windows/amd64")
