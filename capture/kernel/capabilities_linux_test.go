package kernel

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"promflow/capture"
	"promflow/capture/labels"
	"promflow/capture/nettest"
	"promflow/capture/subnets"
)

// many is more subnets than the program has as constants.
var many = func() string {
	var list []string
	for i := range 100 {
		list = append(list, fmt.Sprintf("10.%d.0.0/24,fd00:%d::/64", i, i))
	}
	return strings.Join(list, ",")
}()

// TestLoadsWithTheCapabilitiesItNames loads the program in every form. Without CAP_PERFMON the verifier also follows what a processor may
// execute speculatively, and refuses some programs that it accepts from root.
func TestLoadsWithTheCapabilitiesItNames(t *testing.T) {
	nettest.NeedRoot(t)
	list := []string{"", "10.0.0.0/16", "0.0.0.0/0,::/0", "10.0.0.0/24,10.0.2.0/24,fd00::/64,fd01::/64",
		"10.0.0.0/24,10.0.2.0/24,10.0.4.0/24,10.0.6.0/24,10.0.8.0/24,fd00::/64,fd02::/64,fd04::/64,fd06::/64,fd08::/64",
		"127.0.0.2," + many, "255.255.255.250/32"}
	type form struct {
		monitored, excluded string
		labels              bool
	}
	load := func(f form) error {
		monitored, err := subnets.Parse(f.monitored)
		if err != nil {
			return err
		}
		excluded, err := subnets.Parse(f.excluded)
		if err != nil {
			return err
		}
		c := capture.Config{Table: capture.NewTable(capture.DefaultLimit, 0).Monitor(capture.Subnets{Monitored: monitored, Excluded: excluded})}
		if f.labels {
			all, err := labels.Parse(strings.Join(labels.Names(), ","))
			if err != nil {
				return err
			}
			g := labels.New(all, labels.HostBits{V4: 4, V6: 64}, false)
			in := c.Table.Subnets()
			in.Peers = excluded
			c.Table = capture.NewGroupedTable(capture.DefaultLimit, 0, g, capture.DefaultLimit).Monitor(in)
		}
		p, err := load(c, 2, Sockets)
		if err != nil {
			return err
		}
		return p.close()
	}
	errs := make(chan error)
	forms := make(chan form)
	go func() {
		// Each thread has its own capabilities (capabilities(7)). This thread ends with the goroutine, as it is never unlocked.
		runtime.LockOSThread()
		only := [2]unix.CapUserData{}
		for _, c := range []int{unix.CAP_NET_RAW, unix.CAP_BPF} {
			only[c/32].Permitted |= 1 << (c % 32)
			only[c/32].Effective |= 1 << (c % 32)
		}
		errs <- unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &only[0])
		for f := range forms {
			errs <- load(f)
		}
	}()
	defer close(forms)
	if err := <-errs; err != nil {
		t.Fatal(err)
	}
	for i, monitored := range list {
		for _, labels := range []bool{false, true} {
			f := form{monitored, list[(i+1)%len(list)], labels}
			forms <- f
			if err := <-errs; err != nil {
				t.Errorf("%.200v, labels %v: %v", f, labels, err)
			}
		}
	}
}
