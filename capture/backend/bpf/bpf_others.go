//go:build !darwin && !freebsd && !openbsd

package bpf

import "promflow/capture"

var open = capture.Unsupported("bpf(4) needs macOS, FreeBSD or OpenBSD")
