package ebpf

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
)

// cpus is how many processors there are: numbers below possible are all that there can ever be, those below online have been brought
// online, but for those that are not, if they come later.
type cpus struct{ possible, online int }

// processors asks the kernel, which knows of more processors than there are where some may be plugged in: virtual machines often do.
func processors() (c cpus, err error) {
	if c.possible, err = ebpf.PossibleCPU(); err != nil {
		return c, fmt.Errorf("counting processors: %w", err)
	}
	list, err := os.ReadFile("/sys/devices/system/cpu/online")
	if err != nil {
		return c, fmt.Errorf("counting processors: %w", err)
	}
	// Such as 0-1,4-7.
	last := strings.TrimSpace(string(list[strings.LastIndexAny(string(list), ",-")+1:]))
	highest, err := strconv.Atoi(last)
	if err != nil {
		return c, fmt.Errorf("counting processors: %w", err)
	}
	c.online = min(highest+1, c.possible)
	return c, nil
}
