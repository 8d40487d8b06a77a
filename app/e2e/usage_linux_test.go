package e2e

import (
	"os"
	"syscall"
)

// maxResident returns how much memory a program that has ended was resident in at most, in kB.
func maxResident(ended *os.ProcessState) int64 {
	return int64(ended.SysUsage().(*syscall.Rusage).Maxrss)
}
