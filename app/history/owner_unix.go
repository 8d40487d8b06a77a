//go:build unix

package history

import (
	"io/fs"
	"syscall"
)

// rootOwns tells whether a file is root's.
func rootOwns(file fs.FileInfo) bool {
	stat, ok := file.Sys().(*syscall.Stat_t)
	return ok && stat.Uid == 0
}
