package check

import (
	"fmt"
	"math/bits"
	"os"
	"strconv"
	"strings"

	"kernel.org/pub/linux/libs/security/libcap/cap"
)

// privileges are what this process may do.
type privileges struct {
	uid          int // effective
	effective    uint64
	noNewPrivs   bool
	capabilities uint64 // all that the kernel knows
}

// readPrivileges reads the privileges of the first thread.
func readPrivileges() (privileges, error) {
	status, err := os.ReadFile("/proc/self/status")
	p := parsePrivileges(string(status))
	p.capabilities = 1<<cap.MaxBits() - 1
	return p, err
}

// parsePrivileges parses the lines of proc_pid_status(5).
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

// named are the capabilities that promflow can use, or that include nearly all others.
var named = []cap.Value{cap.NET_RAW, cap.BPF, cap.PERFMON, cap.NET_ADMIN, cap.SYS_ADMIN}

func (p privileges) String() string {
	s := fmt.Sprintf("uid %d with ", p.uid)
	switch p.effective {
	case 0:
		s += "no capability"
	case p.capabilities:
		s += "all capabilities"
	default:
		var names []string
		others := p.effective
		for _, c := range named {
			if others&(1<<c) != 0 {
				names = append(names, c.String())
				others &^= 1 << c
			}
		}
		if n := bits.OnesCount64(others); n > 0 {
			names = append(names, fmt.Sprintf("%d more", n))
		}
		s += strings.Join(names, ", ")
	}
	if p.noNewPrivs {
		s += ", and can gain none (no_new_privs)"
	}
	return s
}

// privilegesFinding compares the privileges at the start with those while promflow captures.
func privilegesFinding(start, now privileges, keeps []string) Finding {
	f := Finding{Name: "privileges", Summary: "started as " + start.String()}
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
