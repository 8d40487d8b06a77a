package kernel

import (
	"fmt"
	"math/bits"
	"os"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
)

// twoStores is 1 for processors of 32 bits, which write a 64-bit word in two stores; else 0.
const twoStores uint32 = 64/bits.UintSize - 1

// cpus has bounds for the numbers of processors. There can never be one with the number possible or a higher one. All that are online have
// a number below online; some of these may be offline, and come later.
type cpus struct{ possible, online int }

// processors asks the kernel. More processors are possible than online where some may be plugged in, as in many virtual machines.
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
