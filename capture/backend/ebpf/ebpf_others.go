//go:build !linux

package ebpf

import "promflow/capture"

var open = capture.Unsupported("eBPF socket filters need Linux")
