package testbed

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/cilium/ebpf"
)

//go:generate go tool bpf2go -tags linux flood flood.c -- -I/usr/include/x86_64-linux-gnu -I/usr/include/aarch64-linux-gnu -Wall -Wextra -Werror

// Flood sends UDP packets over a link, faster than any socket could: the kernel itself makes frames of a template and runs
// flood.c on each, which redirects it into the interface. That is BPF_PROG_RUN in live frame mode
// (https://docs.kernel.org/bpf/bpf_prog_run.html), of Linux 5.18.
type Flood struct {
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
func NewFlood(l *Link, hosts, size int) (*Flood, error) {
	t := template4(size)
	return newFlood(l, t, func(v *floodVariableSpecs) error {
		return errors.Join(
			v.FirstHost.Set(binary.BigEndian.Uint32(t[sourceOffset4:])),
			v.Hosts.Set(uint32(hosts)),
			v.HeaderSum.Set(headerSum(t)))
	})
}

// NewFlood6 prepares to send frames of so many bytes, each from a host of fd00::/64 at random: hardly one comes twice.
func NewFlood6(l *Link, size int) (*Flood, error) {
	return newFlood(l, template6(size), func(v *floodVariableSpecs) error { return v.Ipv6.Set(true) })
}

func newFlood(l *Link, template []byte, set func(*floodVariableSpecs) error) (*Flood, error) {
	f := &Flood{link: l, template: template}
	spec, err := loadFlood()
	if err != nil {
		return nil, err
	}
	var variables floodVariableSpecs
	if err := spec.Assign(&variables); err != nil {
		return nil, err
	}
	err = l.Sender.Do(func() error {
		out, err := net.InterfaceByName(Sending)
		if err != nil {
			return fmt.Errorf("interface %s: %w", Sending, err)
		}
		return errors.Join(
			variables.Outgoing.Set(uint32(out.Index)),
			set(&variables),
			spec.LoadAndAssign(&f.objects, nil))
	})
	if err != nil {
		return nil, fmt.Errorf("loading the flood's XDP program: %w", err)
	}
	return f, nil
}

// Send sends frames, and returns how long that took.
func (f *Flood) Send(ctx context.Context, frames int) (took time.Duration, err error) {
	err = f.link.Sender.Do(func() error {
		start := time.Now()
		for left := frames; left > 0; left -= maxRun {
			if err := ctx.Err(); err != nil {
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
	})
	return took, err
}

// Close frees what NewFlood took.
func (f *Flood) Close() error { return f.objects.Close() }

const (
	checksumOffset = HeaderSize + 10
	sourceOffset4  = HeaderSize + 12
	sourceOffset6  = HeaderSize + 8
	udpOffset4     = HeaderSize + 20
	udpOffset6     = HeaderSize + 40
)

// ethernet goes to a MAC address that nobody has: as on a mirror port, the machine has no use for the frame after capture.
const ethernet = "\x02\x00\x00\x00\x00\x02\x02\x00\x00\x00\x00\x01"

// template4 is a frame with a UDP packet from the first host, 10.0.0.0, to an address that is not monitored (192.0.2.1, which is
// for documentation). The IPv4 checksum is left to flood.c.
func template4(size int) []byte { return fill4(make([]byte, size)) }

func fill4(frame []byte) []byte {
	copy(frame, ethernet+"\x08\x00")
	copy(frame[HeaderSize:], "\x45\x00\x00\x00\x00\x00\x00\x00\x40\x11\x00\x00\x0a\x00\x00\x00\xc0\x00\x02\x01")
	binary.BigEndian.PutUint16(frame[HeaderSize+2:], uint16(len(frame)-HeaderSize))
	discard(frame[udpOffset4:])
	return frame
}

// template6 is a frame with a UDP packet from fd00:: to 2001:db8::1, which is for documentation.
func template6(size int) []byte { return fill6(make([]byte, size)) }

func fill6(frame []byte) []byte {
	copy(frame, ethernet+"\x86\xdd")
	copy(frame[HeaderSize:], "\x60\x00\x00\x00\x00\x00\x11\x40\xfd")
	binary.BigEndian.PutUint16(frame[HeaderSize+4:], uint16(len(frame)-udpOffset6))
	copy(frame[HeaderSize+24:], "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01")
	discard(frame[udpOffset6:])
	return frame
}

// discard makes a UDP packet, between the ports of discard and without a checksum. IPv6 wants one, but nobody looks.
func discard(udp []byte) {
	copy(udp, "\x00\x09\x00\x09")
	binary.BigEndian.PutUint16(udp[4:], uint16(len(udp)))
}

// headerSum adds up the 16-bit words of a frame's IPv4 header without the checksum and the source address.
func headerSum(frame []byte) uint32 {
	var sum uint32
	for at := HeaderSize; at < udpOffset4; at += 2 {
		if at < checksumOffset || at >= sourceOffset4+4 {
			sum += uint32(binary.BigEndian.Uint16(frame[at:]))
		}
	}
	return sum
}
