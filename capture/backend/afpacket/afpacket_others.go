//go:build !linux

package afpacket

import "promflow/capture"

var open = capture.Unsupported("AF_PACKET sockets need Linux")
