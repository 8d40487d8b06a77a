package check

import (
	"fmt"
	"math/bits"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// privileges are those of this process.
type privileges struct {
	uid          int // effective
	effective    uint64
	noNewPrivs   bool
	capabilities uint64 // all that the kernel knows
}

// readPrivileges reads them from /proc, where they are those of the first thread.
func readPrivileges() (privileges, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return privileges{}, err
	}
	p := parsePrivileges(string(status))
	if last, err := os.ReadFile("/proc/sys/kernel/cap_last_cap"); err == nil {
		if n, err := strconv.Atoi(strings.TrimSpace(string(last))); err == nil && n < 63 {
			p.capabilities = 1<<(n+1) - 1
		}
	}
	return p, nil
}

// parsePrivileges reads the lines of proc_pid_status(5).
func parsePrivileges(status string) (p privileges) {
	for line := range strings.Lines(status) {
		name, value, _ := strings.Cut(line, ":")
		fields := strings.Fields(value)
		switch {
		case name == "Uid" && len(fields) > 1:
			p.uid, _ = strconv.Atoi(fields[1])
		case name == "CapEff" && len(fields) > 0:
			p.effective, _ = strconv.ParseUint(fields[0], 16, 64)
		case name == "NoNewPrivs" && len(fields) > 0:
			p.noNewPrivs = fields[0] == "1"
		}
	}
	return p
}

// capabilityNames are the capabilities that are of use to promflow, or give nearly all.
var capabilityNames = []struct {
	bit  int
	name string
}{
	{unix.CAP_NET_RAW, "cap_net_raw"},
	{unix.CAP_BPF, "cap_bpf"},
	{unix.CAP_PERFMON, "cap_perfmon"},
	{unix.CAP_NET_ADMIN, "cap_net_admin"},
	{unix.CAP_SYS_ADMIN, "cap_sys_admin"},
}

func (p privileges) String() string {
	s := fmt.Sprintf("uid %d with ", p.uid)
	switch {
	case p.effective == 0:
		s += "no capability"
	case p.effective == p.capabilities:
		s += "all capabilities"
	default:
		var names []string
		left := p.effective
		for _, c := range capabilityNames {
			if left&(1<<c.bit) != 0 {
				names = append(names, c.name)
				left &^= 1 << c.bit
			}
		}
		if n := bits.OnesCount64(left); n > 0 {
			names = append(names, fmt.Sprintf("%d more", n))
		}
		s += strings.Join(names, ", ")
	}
	if p.noNewPrivs {
		s += ", and can gain none (no_new_privs)"
	}
	return s
}

// privilegesFinding is about what the process may do, at its start and while it captures.
func privilegesFinding(start, now privileges, captures bool, keeps []string) Finding {
	f := Finding{Name: "privileges", Summary: "started as " + start.String()}
	if !captures {
		return f
	}
	if now != start {
		f.detail("captures as %v", now)
	} else {
		f.detail("captures with the same")
	}
	if len(keeps) > 0 {
		f.detail("needs to keep %s", strings.Join(keeps, ", "))
	} else {
		f.detail("needs none of them once it captures")
	}
	return f
}
