//go:build !windows

package watch

// Names of interfaces have up to IFNAMSIZ - 1 = 15 bytes on Linux (dev_valid_name in net/core/dev.c), the BSDs and macOS. Alternative names on
// Linux have up to ALTIFNAMSIZ - 1.
const (
	nameLen        = 127
	notInNames     = "/: \t\n\v\f\r"
	notInNamesText = "space, slash or colon"
)
