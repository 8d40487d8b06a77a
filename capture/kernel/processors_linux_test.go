package kernel

import (
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"promflow/capture"
	"promflow/capture/frame"
	"promflow/capture/labels"
	"promflow/capture/nettest"
	"promflow/capture/subnets"
)

// TestProcessorsThatComeLater loads the program for the first processor only, and counts on all processors.
func TestProcessorsThatComeLater(t *testing.T) {
	nettest.NeedRoot(t)
	if runtime.NumCPU() < 2 {
		nettest.Lacks(t, "a second processor")
	}
	const frames, size = 5000, 100
	monitored, err := subnets.Parse("10.0.0.0/24,10.1.0.0/16,fd00::/64")
	if err != nil {
		t.Fatal(err)
	}
	all, err := labels.Parse(strings.Join(labels.Names(), ","))
	if err != nil {
		t.Fatal(err)
	}
	grouping := labels.New(all, labels.HostBits{}, false)
	for name, table := range map[string]*capture.Table{
		"addresses": capture.NewTable(1000, 0), "labels": capture.NewGroupedTable(1000, 0, grouping, 1000),
	} {
		t.Run(name, func(t *testing.T) {
			r := newRunnerOn(t, ebpf.SchedCLS, capture.Config{Table: table.Monitor(capture.Subnets{Monitored: monitored})}, cpus{possible: 128, online: 1})
			addresses := []string{"10.0.0.1", "10.1.0.1", "fd00::1"}
			var wg sync.WaitGroup
			for cpu := range runtime.NumCPU() {
				wg.Go(func() {
					runtime.LockOSThread() // never unlocked, so that the thread ends with this goroutine
					var only unix.CPUSet
					only.Set(cpu)
					if err := unix.SchedSetaffinity(0, &only); err != nil {
						t.Error(err)
						return
					}
					for _, a := range addresses {
						to := "192.0.2.1"
						if strings.Contains(a, ":") {
							to = "2001:db8::1"
						}
						f := nettest.UDP(netip.MustParseAddr(a), netip.MustParseAddr(to), size)
						for range frames {
							if _, err := r.filter.Run(&ebpf.RunOptions{Data: f, Repeat: 1}); err != nil {
								t.Error(err)
								return
							}
						}
					}
				})
			}
			wg.Wait()
			r.read()
			// BPF_PROG_TEST_RUN may run a program again when a signal comes.
			counted, least := r.outcomes(0)[frame.Counted], int64(frames*runtime.NumCPU()*len(addresses))
			if counted.Packets < least || counted.Packets > least+least/100 || counted.Bytes != counted.Packets*size {
				t.Errorf("%+v counted, want %d packets or a few more of %d bytes", counted, least, size)
			}
			totals, s := map[netip.Addr]int64{}, table.Snapshot()
			for _, h := range s.Hosts {
				totals[h.Addr] += h.TransmitPackets
			}
			for at, series := range s.Series() {
				totals[s.Hosts[at].Addr] += series.TransmitPackets
			}
			var sum int64
			for _, a := range addresses {
				got := totals[netip.MustParseAddr(a)]
				if least := int64(frames * runtime.NumCPU()); got < least || got > least+least/100 {
					t.Errorf("%s has %d packets, want %d", a, got, least)
				}
				sum += got
			}
			if sum != counted.Packets {
				t.Errorf("addresses have %d packets, %d were counted", sum, counted.Packets)
			}
			if alone := sharedPackets(r.Program); alone == 0 || alone == counted.Packets {
				t.Errorf("the shared row has %d packets of %d: the test shows nothing", alone, counted.Packets)
			}
		})
	}
}

// sharedPackets returns the number of packets in the row that processors share.
func sharedPackets(p *Program) (packets int64) {
	for i := range p.sharedRow {
		packets += int64(p.sharedRow[i].Packets)
	}
	return packets
}
