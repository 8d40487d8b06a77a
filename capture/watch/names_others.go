//go:build !windows

package watch

// Names of interfaces on Linux have up to IFNAMSIZ - 1 bytes (dev_valid_name in net/core/dev.c), on the BSDs and macOS, too.
const (
	nameLen        = 15
	notInNames     = "/: \t\n\v\f\r"
	notInNamesText = "space, slash or colon"
)
