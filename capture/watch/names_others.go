//go:build !windows

package watch

// What the name of an interface may be on Linux (dev_valid_name in its net/core/dev.c): up to IFNAMSIZ - 1 bytes. The BSDs and macOS
// have that length, too.
const (
	nameLen        = 15
	notInNames     = "/: \t\n\v\f\r"
	notInNamesText = "space, slash or colon"
)
