package nettest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/cilium/ebpf"
)

//go:generate go tool bpf2go -tags linux flood flood.c -- -I/usr/include/x86_64-linux-gnu -I/usr/include/aarch64-linux-gnu -Wall -Wextra -Werror

// Flood sends UDP packets over a link, faster than any socket could: the kernel itself makes frames of a template and runs
// flood.c on each, which redirects it into the interface. That is BPF_PROG_RUN in live frame mode
// (https://docs.kernel.org/bpf/bpf_prog_run.html), of Linux 5.18.
type Flood struct {
	t        TB
	objects  floodObjects
	link     *Link
	template []byte
}

const (
	liveFrames = 1 << 1  // BPF_F_TEST_XDP_LIVE_FRAMES, linux/bpf.h
	frameBatch = 64      // frames at once, between which the receiving end gets its turn on this processor
	maxRun     = 1 << 18 // frames of one system call; between two of them the flood can be interrupted
)

// NewFlood prepares to send frames of so many bytes, each from one of so many hosts at random: from 10.0.0.0 up.
func NewFlood(t TB, l *Link, hosts, size int) *Flood {
	t.Helper()
	template := UDP(netip.AddrFrom4([4]byte{}), netip.MustParseAddr("192.0.2.1"), size-HeaderSize) // its source is left to flood.c
	return newFlood(t, l, template, func(v *floodVariableSpecs) error {
		return errors.Join(
			v.FirstHost.Set(uint32(10<<24)),
			v.Hosts.Set(uint32(hosts)),
			v.HeaderSum.Set(uint32(^binary.BigEndian.Uint16(template[checksumOffset:]))))
	})
}

// NewFlood6 prepares to send frames of so many bytes, each from a host of fd00::/64 at random: hardly one comes twice.
func NewFlood6(t TB, l *Link, size int) *Flood {
	t.Helper()
	template := UDP(netip.MustParseAddr("fd00::"), netip.MustParseAddr("2001:db8::1"), size-HeaderSize)
	return newFlood(t, l, template, func(v *floodVariableSpecs) error { return v.Ipv6.Set(true) })
}

func newFlood(t TB, l *Link, template []byte, set func(*floodVariableSpecs) error) *Flood {
	t.Helper()
	f := &Flood{t: t, link: l, template: template}
	spec, err := loadFlood()
	Check(t, err)
	var variables floodVariableSpecs
	Check(t, spec.Assign(&variables))
	err = l.Sender.Do(func() error {
		outgoing, err := awaitQueue(Sending)
		return errors.Join(err, variables.Outgoing.Set(uint32(outgoing)), set(&variables), spec.LoadAndAssign(&f.objects, nil))
	})
	if err != nil {
		t.Fatal(fmt.Errorf("loading the flood's XDP program: %w", err))
	}
	t.Cleanup(func() { f.objects.Close() })
	return f
}

// Send sends frames, and returns how long that took.
func (f *Flood) Send(frames int) (took time.Duration) {
	f.t.Helper()
	Check(f.t, f.link.Sender.Do(func() error {
		start := time.Now()
		for left := frames; left > 0; left -= maxRun {
			if err := f.t.Context().Err(); err != nil {
				return err
			}
			_, err := f.objects.Flood.Run(&ebpf.RunOptions{
				Data:      f.template,
				Repeat:    uint32(min(maxRun, left)),
				Flags:     liveFrames,
				BatchSize: frameBatch,
			})
			if err != nil {
				return fmt.Errorf("sending live XDP frames (Linux 5.18 and later can): %w", err)
			}
		}
		took = time.Since(start)
		return nil
	}))
	return took
}

// Start sends frames until end is called, which waits for the last ones.
func (f *Flood) Start() (end func()) {
	done := make(chan struct{})
	var sending sync.WaitGroup
	sending.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				f.Send(1 << 16)
			}
		}
	})
	return sync.OnceFunc(func() { close(done); sending.Wait() })
}
