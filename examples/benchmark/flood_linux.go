package main

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

// flood sends UDP packets over a link, faster than any socket could: the kernel itself makes frames of a template and runs
// flood.c on each, which redirects it into the interface. That is BPF_PROG_RUN in live frame mode
// (https://docs.kernel.org/bpf/bpf_prog_run.html), of Linux 5.18.
type flood struct {
	objects  floodObjects
	link     *link
	template []byte
}

const (
	liveFrames = 1 << 1  // BPF_F_TEST_XDP_LIVE_FRAMES, linux/bpf.h
	frameBatch = 64      // frames at once, between which the receiving end gets its turn on this processor
	maxRun     = 1 << 18 // frames of one system call; between two of them the flood can be interrupted
)

// newFlood prepares to send frames of so many bytes from so many addresses.
func newFlood(l *link, hosts, size int) (*flood, error) {
	f := &flood{link: l, template: template(size)}
	spec, err := loadFlood()
	if err != nil {
		return nil, err
	}
	var variables floodVariableSpecs
	if err := spec.Assign(&variables); err != nil {
		return nil, err
	}
	err = l.sender.do(func() error {
		out, err := net.InterfaceByName(sending)
		if err != nil {
			return fmt.Errorf("interface %s: %w", sending, err)
		}
		return errors.Join(
			variables.Outgoing.Set(uint32(out.Index)),
			variables.FirstHost.Set(binary.BigEndian.Uint32(f.template[sourceOffset:])),
			variables.Hosts.Set(uint32(hosts)),
			variables.HeaderSum.Set(headerSum(f.template)),
			spec.LoadAndAssign(&f.objects, nil))
	})
	if err != nil {
		return nil, fmt.Errorf("loading the flood's XDP program: %w", err)
	}
	return f, nil
}

// send sends frames, and returns how long that took.
func (f *flood) send(ctx context.Context, frames int) (took time.Duration, err error) {
	err = f.link.sender.do(func() error {
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

func (f *flood) close() error { return f.objects.Close() }

const (
	checksumOffset = headerSize + 10
	sourceOffset   = headerSize + 12
	udpOffset      = headerSize + 20
)

// template is a frame with a UDP packet from the first host, to an address that is not monitored (192.0.2.1, which is for
// documentation) and to a MAC address that nobody has: as on a mirror port, the machine has no use for it after capture.
// The IPv4 checksum is left to flood.c.
func template(size int) []byte {
	frame := make([]byte, size)
	copy(frame, "\x02\x00\x00\x00\x00\x02\x02\x00\x00\x00\x00\x01\x08\x00")
	copy(frame[headerSize:], "\x45\x00\x00\x00\x00\x00\x00\x00\x40\x11\x00\x00\x0a\x00\x00\x00\xc0\x00\x02\x01")
	binary.BigEndian.PutUint16(frame[headerSize+2:], uint16(size-headerSize))
	copy(frame[udpOffset:], "\x00\x09\x00\x09") // ports of discard; without a checksum
	binary.BigEndian.PutUint16(frame[udpOffset+4:], uint16(size-udpOffset))
	return frame
}

// headerSum adds up the 16-bit words of a frame's IPv4 header without the checksum and the source address.
func headerSum(frame []byte) uint32 {
	var sum uint32
	for at := headerSize; at < udpOffset; at += 2 {
		if at < checksumOffset || at >= sourceOffset+4 {
			sum += uint32(binary.BigEndian.Uint16(frame[at:]))
		}
	}
	return sum
}
