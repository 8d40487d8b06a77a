package ebpf

import "promflow/capture"

// Backend is the list entry of this package.
var Backend = capture.Backend{Name: "ebpf", Capabilities: "cap_net_raw,cap_bpf", Open: open}

//go:generate go tool bpf2go -tags linux count count.c -- -O2 -Wall -Wextra -Werror -Wno-unused-parameter -I/usr/include/x86_64-linux-gnu -I/usr/include/aarch64-linux-gnu
