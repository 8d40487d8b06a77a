package e2e

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"promflow/capture/labels"
	"promflow/capture/nettest"
)

// TestCountsInTheKernel has root, and nobody with the two capabilities that README names, leave the choice of the backend to
// promflow: it must be ebpf, whatever is asked of it. Before Linux 5.11 that takes a raised limit of locked memory, which setcap does
// not raise.
func TestCountsInTheKernel(t *testing.T) {
	nettest.Need(t, "setcap", "setpriv")
	var many []string
	for i := range 200 {
		many = append(many, fmt.Sprintf("10.%d.%d.0/24", i, i), fmt.Sprintf("fd00:%x::/64", i))
	}
	const few, all = "--monitor-subnets=10.0.0.0/24", "--monitor-subnets=0.0.0.0/0,::/0"
	hundreds, labels := "--monitor-subnets="+strings.Join(many, ","), "--labels="+strings.Join(labels.Names(), ",")
	configurations := map[string][]string{
		"a subnet":                          {few},
		"a subnet, all labels":              {few, labels},
		"all addresses":                     {all},
		"all addresses, prefixes and peers": {all, "--aggregate=/24", "--aggregate6=/64", "--labels=peer"},
		"hundreds of subnets":               {hundreds, "--exclude-subnets=10.201.0.0/24,10.202.0.0/24,10.203.0.0/24"},
		"hundreds of subnets, all labels":   {hundreds, labels},
	}
	program := copyForEveryone(t)
	for _, user := range []struct {
		name, setcap string
		by           []string
	}{
		{name: "root"},
		{"nobody", "cap_net_raw,cap_bpf+ep", []string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"}},
	} {
		for _, name := range slices.Sorted(maps.Keys(configurations)) {
			t.Run(user.name+", "+name, func(t *testing.T) {
				here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
				here.Veth("a0", there, "a0")
				grant(t, program, user.setcap)
				command := slices.Concat(user.by, []string{program, "--interface=a0", "--metrics-address=127.0.0.1:0"}, configurations[name])
				cmd := here.Command(command...)
				cmd.Env = append(os.Environ(), beProgram+"=1")
				p := start(t, here, cmd).listening()
				sendOn(t, there, "a0", 10)
				eventually(t, func() error {
					page := p.get("/metrics")
					if !strings.Contains(page, `promflow_capture_up{backend="ebpf",interface="a0"} 1`) {
						return errors.New("not captured by ebpf")
					}
					if got := sums(t, page)["promflow_transmit_bytes_total"]; !strings.Contains(page, `ip="10.0.0.`) || got != 1000 {
						return fmt.Errorf("10.0.0.1 has transmitted %d bytes, want 1000", got)
					}
					return nil
				})
			})
		}
	}
}
