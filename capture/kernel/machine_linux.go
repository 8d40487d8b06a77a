package kernel

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Before tells whether the kernel is older than a version of Linux. It asks uname(2). Libraries read the version from the
// memory of their process. A process with file capabilities may not do that, as it is not dumpable (PR_SET_DUMPABLE of prctl(2)).
func Before(major, minor int) bool {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return true
	}
	return releaseBefore(unix.ByteSliceToString(name.Release[:]), major, minor)
}

// releaseBefore is Before for a release such as 5.10.0-32-amd64. It takes a release without a version for an old one: promflow asks
// less of old kernels, and explains more.
func releaseBefore(release string, major, minor int) bool {
	var hasMajor, hasMinor int
	if _, err := fmt.Sscanf(release, "%d.%d", &hasMajor, &hasMinor); err != nil {
		return true
	}
	return hasMajor < major || hasMajor == major && hasMinor < minor
}

// machine describes what limits the kernel's maps: they have a row for each processor, and a control group may limit their memory.
func machine() string {
	s := ""
	if cpus, err := processors(); err == nil {
		s = fmt.Sprintf(" with %d processors", cpus.online)
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return s
	}
	if limit, ok := memoryLimit(os.DirFS("/sys/fs/cgroup"), string(own)); ok {
		s += fmt.Sprintf(" in the %s that its control group allows (MemoryMax= of a systemd unit, --memory of a container)", size(limit))
	}
	return s
}

// memoryLimit returns the smallest memory.max of a process' control group and its parents (version 2 of cgroups(7)). own is the process'
// /proc/PID/cgroup. ok is false if there is no limit.
func memoryLimit(groups fs.FS, own string) (limit uint64, ok bool) {
	for line := range strings.Lines(own) {
		group, ours := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::/")
		if !ours {
			continue
		}
		for group = path.Join(".", group); ; group = path.Dir(group) {
			// The path of a group outside of this namespace is not valid: reading it fails.
			if text, err := fs.ReadFile(groups, path.Join(group, "memory.max")); err == nil {
				n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64) // fails for "max", which is no limit
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

// size writes a number of bytes for humans: in MiB, or in KiB if it is small.
func size(bytes uint64) string {
	if bytes < 10<<20 {
		return fmt.Sprintf("%d KiB", bytes>>10)
	}
	return fmt.Sprintf("%d MiB", bytes>>20)
}
