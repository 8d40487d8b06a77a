package nettest

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// pickCPUs chooses, of the processors that this process may use, one for the sender of a link and one for what receives: not two threads
// of one core, and the same only if there is no other.
func pickCPUs(t TB) (send, receive int) {
	t.Helper()
	var allowed unix.CPUSet
	Check(t, unix.SchedGetaffinity(0, &allowed))
	var cpus []int
	for cpu := range len(allowed) * 64 {
		if allowed.IsSet(cpu) {
			cpus = append(cpus, cpu)
		}
	}
	for _, cpu := range cpus[1:] {
		if core(cpu) != core(cpus[0]) {
			return cpus[0], cpu
		}
	}
	return cpus[0], cpus[len(cpus)-1]
}

// core names the core that a processor is a thread of.
func core(cpu int) string {
	threads, err := os.ReadFile(fmt.Sprintf("/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu))
	if err != nil {
		return fmt.Sprint(cpu) // not said: a core of its own
	}
	return string(threads)
}
