package afpacket

import (
	"context"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"promflow/capture"
	"promflow/capture/frame"
	"promflow/capture/nettest"
	"promflow/capture/subnets"
)

// TestFramesWithoutTheirLinkHeader has a ring take a device for what it says, an Ethernet, which its frames are not.
func TestFramesWithoutTheirLinkHeader(t *testing.T) {
	ns := nettest.NewNamespace(t)
	tun := ns.Tun("t0", unix.IFF_TUN|unix.IFF_NO_PI)
	ns.SetTunType(tun, "t0", unix.ARPHRD_ETHER)
	monitored := subnets.Of(netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/16"))
	config := capture.Config{Table: capture.NewTable(10, 0).Monitor(capture.Subnets{Monitored: monitored}), Log: slog.New(slog.DiscardHandler)}
	var c capture.Capture
	var s capture.Source
	if err := ns.Do(func() (err error) {
		if c, err = open(config, 1); err != nil {
			return err
		}
		s, err = c.Open()
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	defer s.Close()
	to := ns.Interface("t0")
	to.Ethernet = true
	if err := s.Attach(to); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- s.Run(ctx) }()
	for _, addresses := range [][2]string{{"10.1.0.3", "10.1.0.200"}, {"fd00::3", "fd00::4"}} {
		packet := nettest.UDP(netip.MustParseAddr(addresses[0]), netip.MustParseAddr(addresses[1]), 100)[14:]
		for range 10 {
			if _, err := tun.Write(packet); err != nil {
				t.Fatal(err)
			}
		}
	}
	want := capture.OutcomeSize{Packets: 20, Bytes: 2000}
	for end := time.Now().Add(10 * time.Second); s.Status().Outcomes[frame.Counted] != want && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if got := s.Status().Outcomes; got[frame.Counted] != want || got[frame.NonIP].Packets != 0 {
		t.Errorf("outcomes are %v, want %v counted", got, want)
	}
}
