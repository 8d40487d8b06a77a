package capturetest

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"promflow/capture"
	"promflow/capture/frame"
	"promflow/capture/labels"
	"promflow/capture/nettest"
	"promflow/capture/subnets"
)

// followsSubnets changes the subnets again and again while packets come: none is lost or counted twice.
func followsSubnets(t *testing.T, b capture.Backend) {
	const hosts, size = 50, 100
	changes := rounds(20, 3) // three of which bring every outcome
	lists := []capture.Subnets{
		{Monitored: parse(t, "lan=10.0.0.0/8,fd00::/16"), Excluded: parse(t, "10.66.0.0/16")},
		{Monitored: parse(t, "office=10.1.0.0/16,10.2.0.0/15")},
		{Monitored: parse(t, "10.1.0.7,10.9.0.0/16"), Excluded: parse(t, "10.1.0.0/28")},
		{Monitored: parse(t, "0.0.0.0/0,::/0"), Peers: parse(t, "vpn=192.0.2.0/24")},
		{Monitored: subnets.Set{}},
	}
	for _, list := range []string{"", "network,peer"} {
		t.Run("labels "+list, func(t *testing.T) {
			here, there := link(t)
			table := capture.NewTable(1000, 0)
			if list != "" {
				set, err := labels.Parse(list)
				nettest.Check(t, err)
				table = capture.NewGroupedTable(1000, 0, labels.New(set, labels.HostBits{}, true), 1000)
			}
			r := start(t, b, here, "here", capture.Config{Table: table.Monitor(lists[0]), Changes: true})
			sender := nettest.NewSender(t, there, "there")
			done, sent := make(chan struct{}), int64(0)
			var sending sync.WaitGroup
			sending.Go(func() {
				for ; ; sent++ {
					select {
					case <-done:
						return
					default:
						from := netip.AddrFrom4([4]byte{10, 1, 0, byte(sent % hosts)})
						sender.Send(nettest.UDP(from, netip.MustParseAddr("192.0.2.1"), size))
					}
				}
			})
			programs, files := 0, 0
			for n := range changes {
				table.Monitor(lists[(n+1)%len(lists)])
				if err := r.capture.Update(); err != nil {
					t.Fatal(err)
				}
				seen := packets(r.status())
				r.seen(seen + 100)
				if now := openFiles(t); n == 0 {
					files, programs = len(now), countOf(now, "bpf-prog")
				} else if len(now) > files || countOf(now, "bpf-prog") > programs {
					t.Fatalf("after %d changes there are %d files, %d of programs; there were %d and %d", n+1, len(now), countOf(now, "bpf-prog"), files, programs)
				}
			}
			close(done)
			sending.Wait()
			s := r.seen(sent)
			if packets(s) != sent {
				t.Errorf("%d packets were seen, %d sent", packets(s), sent)
			}
			var counted int64
			for _, totals := range byAddress(table) {
				counted += totals.TransmitPackets
			}
			if want := s.Outcomes[frame.Counted].Packets; counted != want || want == 0 || want == sent {
				t.Errorf("addresses have transmitted %d packets, %d of %d were counted", counted, want, sent)
			}
			for outcome, of := range s.Outcomes {
				if frame.Outcome(outcome) < frame.NonIP && of.Packets == 0 {
					t.Errorf("no packet was %v: this test shows nothing", frame.Outcome(outcome))
				}
			}
		})
	}
}

// openFiles returns what this process has open.
func openFiles(t *testing.T) (targets []string) {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", os.Getpid()))
	nettest.Check(t, err)
	for _, file := range files {
		if target, err := os.Readlink(file); err == nil { // else it is the folder itself
			targets = append(targets, target)
		}
	}
	return targets
}

func countOf(all []string, part string) (n int) {
	for _, each := range all {
		if strings.Contains(each, part) {
			n++
		}
	}
	return n
}
