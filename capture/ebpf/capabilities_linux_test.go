package ebpf

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"promflow/capture"
	"promflow/capture/capturetest"
)

// TestLoadsWithTheCapabilitiesItNames loads the program in every form. Without CAP_PERFMON the verifier follows what a
// processor may speculate about, too, and refuses some of what it accepts from root.
func TestLoadsWithTheCapabilitiesItNames(t *testing.T) {
	capturetest.NeedRoot(t)
	list := []string{"", "10.0.0.0/16", "0.0.0.0/0,::/0", "10.0.0.0/24,10.0.2.0/24,fd00::/64,fd01::/64",
		"10.0.0.0/24,10.0.2.0/24,10.0.4.0/24,10.0.6.0/24,10.0.8.0/24,fd00::/64,fd02::/64,fd04::/64,fd06::/64,fd08::/64"}
	type form struct {
		monitored, excluded string
		ethernet            bool
	}
	load := func(f form) error {
		monitored, err := capture.ParseSubnets(f.monitored)
		if err != nil {
			return err
		}
		excluded, err := capture.ParseSubnets(f.excluded)
		if err != nil {
			return err
		}
		p, err := load(capture.NewCounter(capture.NewTable(capture.DefaultLimit), monitored, excluded), f.ethernet)
		if err != nil {
			return err
		}
		return p.close()
	}
	errs := make(chan error)
	forms := make(chan form)
	go func() {
		// Capabilities are the thread's own (capabilities(7)): it ends with this goroutine.
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
	for _, monitored := range list {
		for _, excluded := range list {
			for _, ethernet := range []bool{true, false} {
				f := form{monitored, excluded, ethernet}
				forms <- f
				if err := <-errs; err != nil {
					t.Errorf("%+v: %v", f, err)
				}
			}
		}
	}
}
