package e2e

import (
	"os"
	"syscall"
)

// maxResident returns how much memory a program that has ended was resident in at most, in kB.
func maxResident(ended *os.ProcessState) int64 {
	return int64(ended.SysUsage().(*syscall.Rusage).Maxrss)
}

// maxResidentHere is that of this process.
func maxResidentHere() int64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err) // the arguments are valid
	}
	return int64(usage.Maxrss)
}
