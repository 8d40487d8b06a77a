package kernel

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"promflow/capture"
	"promflow/capture/frame"
	"promflow/capture/labels"
	"promflow/capture/nettest"
	"promflow/capture/subnets"
)

// TestReadsWhileCounting reads totals that grow by 4 GiB every few milliseconds. So they are often read while one half is updated and the
// other is not yet.
func TestReadsWhileCounting(t *testing.T) {
	nettest.NeedRoot(t)
	const segments, headers, rounds, perRound = 3000, 20 + 20, 40, 20_000
	packet := ipv4(6, make([]byte, 20+segments)...)
	f := append(append(make([]byte, 12), 8, 0), packet...)
	context := skBuff{GSOSize: 1}
	for _, monitored := range []string{"10.0.0.0/24", "10.0.0.0/8"} {
		t.Run(monitored, func(t *testing.T) {
			subnets, err := subnets.Parse(monitored)
			if err != nil {
				t.Fatal(err)
			}
			table := capture.NewTable(1000, 0)
			r := newRunner(t, ebpf.SchedCLS, capture.Config{Table: table.Monitor(capture.Subnets{Monitored: subnets})})
			counted := make(chan error)
			go func() {
				var err error
				for range rounds {
					if err == nil {
						_, err = r.filter.Run(&ebpf.RunOptions{Data: f, Context: context, Repeat: perRound})
					}
				}
				counted <- err
			}()
			source, destination := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
			var most capture.OutcomeSize // that any read saw
			reads := 0
			for done := false; !done; reads++ {
				select {
				case err := <-counted:
					if err != nil {
						t.Fatal(err)
					}
					done = true
				default:
				}
				r.read()
				for _, h := range table.Snapshot().Hosts {
					most.Bytes = max(most.Bytes, h.TransmitBytes, h.ReceiveBytes)
					most.Packets = max(most.Packets, h.TransmitPackets, h.ReceivePackets)
				}
			}
			// A run that a signal interrupts is repeated, but has counted.
			last := r.outcomes(0)[frame.Counted]
			packets, bytes := last.Packets, last.Bytes
			if packets < rounds*perRound*segments || packets%segments != 0 || bytes != packets*(headers+1) {
				t.Errorf("%+v counted, want %d packets or some more of %d bytes", last, int64(rounds*perRound*segments), headers+1)
			}
			if most != last {
				t.Errorf("reads saw as much as %+v, of %+v", most, last)
			}
			if reads < 3 {
				t.Errorf("%d reads while counting", reads)
			}
			got := result{totals: totalsOf(table), outcomes: r.outcomes(0)}
			want := result{totals: map[netip.Addr]capture.Totals{
				source:      {TransmitBytes: bytes, TransmitPackets: packets},
				destination: {ReceiveBytes: bytes, ReceivePackets: packets},
			}}
			want.outcomes[frame.Counted] = capture.OutcomeSize{Packets: packets, Bytes: bytes}
			if !got.equal(want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

// TestLateReadsEvictNobodyAlive reads so late that addresses could have expired. They have moved something since the last read, so they
// must stay in the table. A new address, whose indexed slot comes before theirs, must not take a place.
func TestLateReadsEvictNobodyAlive(t *testing.T) {
	nettest.NeedRoot(t)
	monitored, err := subnets.Parse("10.0.0.0/30,10.1.0.0/16")
	if err != nil {
		t.Fatal(err)
	}
	const expireAfter = time.Millisecond
	alive := []string{"10.1.0.1", "10.1.0.2", "10.1.0.3", "10.1.0.4"}
	vlans := labels.New(labels.Set(0).With(labels.VLAN), labels.HostBits{}, false)
	for name, table := range map[string]*capture.Table{
		"addresses":                 capture.NewTable(len(alive), expireAfter),
		"return with another label": capture.NewGroupedTable(len(alive), expireAfter, vlans, 100),
	} {
		t.Run(name, func(t *testing.T) {
			r := newRunner(t, ebpf.SchedCLS, capture.Config{Table: table.Monitor(capture.Subnets{Monitored: monitored})})
			run := func(vlan byte, addresses ...string) {
				for _, a := range addresses {
					f := slices.Insert(nettest.UDP(netip.MustParseAddr(a), netip.MustParseAddr("192.0.2.1"), 100), 12, 0x81, 0, 0, vlan)
					if _, err := r.filter.Run(&ebpf.RunOptions{Data: f}); err != nil {
						t.Fatal(err)
					}
				}
			}
			run(1, alive...)
			r.read()
			for expired := 0; expired < len(alive); time.Sleep(10 * time.Millisecond) {
				expired = 0
				s := table.Snapshot()
				for i := range s.Hosts {
					if s.Expired(&s.Hosts[i]) {
						expired++
					}
				}
			}
			run(1, "10.0.0.1")
			run(2, alive...)
			r.read()
			totals, s := map[netip.Addr]int64{}, table.Snapshot()
			for _, h := range s.Hosts {
				totals[h.Addr] += h.TransmitPackets
			}
			for at, series := range s.Series() {
				totals[s.Hosts[at].Addr] += series.TransmitPackets
			}
			for _, a := range alive {
				if got := totals[netip.MustParseAddr(a)]; got != 2 {
					t.Errorf("%s has %d packets, want 2", a, got)
				}
			}
			if got := totals[netip.Addr{}]; got != 1 {
				t.Errorf("the others have %d packets, want 1", got)
			}
		})
	}
}
