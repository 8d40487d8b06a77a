package e2e

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"promflow/capture/labels"
	"promflow/capture/nettest"
)

// capable are users who may count in the kernel.
var capable = []capableUser{
	{name: "root"},
	{"nobody", "cap_net_raw,cap_bpf+ep", []string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"}},
}

type capableUser struct {
	name, setcap string
	by           []string
}

// start runs a copy of the program on a0.
func (u capableUser) start(t *testing.T, ns *nettest.Namespace, copied string, args ...string) *program {
	t.Helper()
	grant(t, copied, u.setcap)
	cmd := ns.Command(slices.Concat(u.by, []string{copied, "--interface=a0", "--metrics-address=127.0.0.1:0"}, args)...)
	cmd.Env = append(os.Environ(), beProgram+"=1")
	return start(t, ns, cmd).listening()
}

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
	for _, user := range capable {
		for _, name := range slices.Sorted(maps.Keys(configurations)) {
			t.Run(user.name+", "+name, func(t *testing.T) {
				here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
				here.Veth("a0", there, "a0")
				p := user.start(t, here, program, configurations[name]...)
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

// TestReloadsInTheKernel changes subnets after privileges were given up: ebpf takes those that it has kept to load another program.
func TestReloadsInTheKernel(t *testing.T) {
	nettest.Need(t, "setcap", "setpriv")
	program := copyForEveryone(t)
	file := filepath.Join(filepath.Dir(program), "subnets")
	put := func(text string) { t.Helper(); nettest.Check(t, os.WriteFile(file, []byte(text), 0o644)) }
	for _, user := range capable {
		t.Run(user.name, func(t *testing.T) {
			here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
			here.Veth("a0", there, "a0")
			put("10.0.0.0/24")
			p := user.start(t, here, program, "--capture=ebpf", "--monitor-subnets=@"+file)
			expect := func(subnet string, sum int64) {
				t.Helper()
				eventually(t, func() error {
					page := p.get("/metrics")
					if got := sums(t, page)["promflow_transmit_bytes_total"]; got != sum || !strings.Contains(page, `subnet="`+subnet+`"`) {
						return fmt.Errorf("%d bytes are counted, want %d, and the subnet %s", got, sum, subnet)
					}
					return nil
				})
			}
			expect("10.0.0.0/24", 0)
			sendOn(t, there, "a0", 10)
			expect("10.0.0.0/24", 1000)
			for n, subnet := range []string{"172.16.0.0/12", "10.0.0.0/8"} {
				put(subnet)
				nettest.Check(t, p.cmd.Process.Signal(syscall.SIGHUP))
				expect(subnet, 1000)
				sendOn(t, there, "a0", 10)
				expect(subnet, 1000+1000*int64(n))
			}
		})
	}
}
