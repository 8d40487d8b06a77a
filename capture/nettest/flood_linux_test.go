package nettest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// newTestLink makes a link, and a socket that receives what comes out of it.
func newTestLink(t *testing.T) (l *Link, socket int) {
	t.Helper()
	l = NewLink(t)
	all := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL))
	Check(t, l.Receiver.Do(func() (err error) {
		if socket, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(all)); err != nil {
			return err
		}
		return unix.SetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20)
	}))
	t.Cleanup(func() { unix.Close(socket) })
	return l, socket
}

// receive gives the next frame, which is there already.
func receive(t *testing.T, socket int) []byte {
	t.Helper()
	frame := make([]byte, 2048)
	n, _, err := unix.Recvfrom(socket, frame, unix.MSG_DONTWAIT)
	if err != nil {
		t.Fatal(err)
	}
	return frame[:n]
}

// checksummed is an error of the test unless the IPv4 header's checksum is right: then all its words add up to ffff (RFC 1071).
func checksummed(t *testing.T, frame []byte) {
	t.Helper()
	var sum uint32
	for at := HeaderSize; at < udpOffset4; at += 2 {
		sum += uint32(binary.BigEndian.Uint16(frame[at:]))
	}
	if sum = sum&0xffff + sum>>16; sum&0xffff+sum>>16 != 0xffff {
		t.Fatalf("the checksum is wrong in %x", frame[HeaderSize:udpOffset4])
	}
}

func TestFlood(t *testing.T) {
	const frames, size = 1000, 100
	const random6 = sourceOffset6 + 8 // the lower half of an IPv6 source
	from := func(source, to string) []byte {
		return UDP(netip.MustParseAddr(source), netip.MustParseAddr(to), size-HeaderSize)
	}
	flood := func(hosts int) func(TB, *Link) *Flood {
		return func(t TB, l *Link) *Flood { return NewFlood(t, l, hosts, size) }
	}
	for _, c := range []struct {
		name     string
		open     func(TB, *Link) *Flood
		template []byte
		from, to int // where frames differ from the template
		within   netip.Prefix
		sources  int // at the least
	}{
		{"256 hosts", flood(256), from("10.0.0.0", "192.0.2.1"), checksumOffset, udpOffset4 - 4, netip.MustParsePrefix("10.0.0.0/24"), 150},
		{"forged IPv4", flood(1 << 24), from("10.0.0.0", "192.0.2.1"), checksumOffset, udpOffset4 - 4, netip.MustParsePrefix("10.0.0.0/8"), frames - 10},
		{"forged IPv6", func(t TB, l *Link) *Flood { return NewFlood6(t, l, size) }, from("fd00::", "2001:db8::1"), random6, random6 + 8,
			netip.MustParsePrefix("fd00::/64"), frames},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, socket := newTestLink(t)
			err := Try(t.Context(), func(t TB) { c.open(t, l).Send(frames) })
			if errors.Is(err, unix.EINVAL) {
				Lacks(t, "Linux 5.18 for live XDP frames")
			}
			Check(t, err)
			if n := l.Received(); n != frames {
				t.Errorf("%d frames were received", n)
			}
			sources := make(map[netip.Addr]bool)
			for range frames {
				frame := receive(t, socket)
				if len(frame) != size || !bytes.Equal(frame[:c.from], c.template[:c.from]) || !bytes.Equal(frame[c.to:], c.template[c.to:]) {
					t.Fatalf("the frame is %x, want %x with another source", frame, c.template)
				}
				source, _ := netip.AddrFromSlice(frame[sourceOffset6 : sourceOffset6+16])
				if c.within.Addr().Is4() {
					checksummed(t, frame)
					source, _ = netip.AddrFromSlice(frame[sourceOffset4 : sourceOffset4+4])
				}
				if !c.within.Contains(source) {
					t.Errorf("the source %v is not in %v", source, c.within)
				}
				sources[source] = true
			}
			if len(sources) < c.sources {
				t.Errorf("there are %d sources", len(sources))
			}
		})
	}
}

func TestSender(t *testing.T) {
	l, socket := newTestLink(t)
	addresses := func(from, to string) [2]netip.Addr {
		return [2]netip.Addr{netip.MustParseAddr(from), netip.MustParseAddr(to)}
	}
	pairs := [][2]netip.Addr{addresses("10.1.2.3", "192.168.255.254"), addresses("fd00::1:2", "fd00::3:4")}
	s := NewSender(t, l.Sender, Sending)
	for _, pair := range pairs {
		s.Send(UDP(pair[0], pair[1], 90))
	}
	for _, pair := range pairs {
		frame := receive(t, socket)
		at := sourceOffset6
		if pair[0].Is4() {
			at = sourceOffset4
			checksummed(t, frame)
		}
		if want := append(pair[0].AsSlice(), pair[1].AsSlice()...); len(frame) != HeaderSize+90 || !bytes.Equal(frame[at:at+len(want)], want) {
			t.Errorf("the frame is %x, want %v", frame, pair)
		}
	}
	if sending, want := l.Sender.Counters(Sending), (Counters{Sent: 2}); sending != want {
		t.Errorf("the sending end counts %+v", sending)
	}
	if receiving, want := l.Receiver.Counters(Receiving), (Counters{Received: 2}); receiving != want {
		t.Errorf("the receiving end counts %+v", receiving)
	}
}
