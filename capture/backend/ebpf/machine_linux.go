package ebpf

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// kernelBefore tells whether the kernel is older than a version of Linux. It asks uname(2): the version that others read from the
// process' own memory is closed to one with file capabilities, which is not dumpable (PR_SET_DUMPABLE of prctl(2)).
func kernelBefore(major, minor int) bool {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return true
	}
	return releaseBefore(unix.ByteSliceToString(name.Release[:]), major, minor)
}

// releaseBefore is kernelBefore of a release such as 5.10.0-32-amd64. One that has no version is taken for an old one, which is asked
// for less and told more.
func releaseBefore(release string, major, minor int) bool {
	var hasMajor, hasMinor int
	if _, err := fmt.Sscanf(release, "%d.%d", &hasMajor, &hasMinor); err != nil {
		return true
	}
	return hasMajor < major || hasMajor == major && hasMinor < minor
}

// room says what the kernel's maps must do with: there is a row of counts for each processor, and control groups may limit them.
func room() string {
	s := ""
	if cpus, err := processors(); err == nil {
		s = fmt.Sprintf(" with %d processors", cpus.online)
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return s
	}
	if limit, ok := memoryLimit(os.DirFS("/sys/fs/cgroup"), string(own)); ok {
		s += fmt.Sprintf(" in the %s that its control group may have (MemoryMax= of a systemd unit, --memory of a container)", size(limit))
	}
	return s
}

// memoryLimit gives the least memory.max of a process' control group and of those that this is in, where own is its /proc/PID/cgroup
// (version 2 of cgroups(7)); ok is false without one.
func memoryLimit(groups fs.FS, own string) (limit uint64, ok bool) {
	for line := range strings.Lines(own) {
		group, ours := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::/")
		if !ours {
			continue
		}
		for group = path.Join(".", group); ; group = path.Dir(group) {
			// A group that this namespace does not show is no valid path.
			if text, err := fs.ReadFile(groups, path.Join(group, "memory.max")); err == nil {
				n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64) // or it is "max"
				if err == nil && (!ok || n < limit) {
					limit, ok = n, true
				}
			}
			if group == "." {
				break
			}
		}
	}
	return limit, ok
}

// size is for humans: MiB, or KiB where these are few.
func size(bytes uint64) string {
	if bytes < 10<<20 {
		return fmt.Sprintf("%d KiB", bytes>>10)
	}
	return fmt.Sprintf("%d MiB", bytes>>20)
}
