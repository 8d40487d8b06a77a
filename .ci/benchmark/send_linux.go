package main

import (
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/net/ipv4"

	"promflow/capture/nettest"
)

// Addresses of what is sent: a host that promflow monitors, which is the receiving end of the link itself, and one that it does not.
const senderAddress, awayAddress = "10.0.0.1", "192.0.2.1"

// prepareSending has packets to awayAddress leave by the receiving end of the link. They go to a MAC address that nobody has, so that the
// other end drops them soon: veth would copy what comes from a socket for an XDP program to drop it.
func (b *benchmark) prepareSending() {
	b.link.Receiver.IP("addr", "add", senderAddress, "peer", awayAddress, "dev", nettest.Receiving)
	b.link.Receiver.IP("neigh", "add", awayAddress, "lladdr", "02:00:00:00:00:02", "dev", nettest.Receiving)
}

// transmit sends packets by a socket, and sees what leaves by the end of the link that tools watch.
func (b *benchmark) transmit(t nettest.TB, m *measurement) {
	const batch = 64 // packets of a system call
	sent := func() int64 { return b.link.Receiver.Counters(nettest.Receiving).Sent }
	messages := make([]ipv4.Message, batch)
	for i := range messages {
		messages[i].Buffers = [][]byte{make([]byte, b.size-nettest.HeaderSize-20-8)}
	}
	before := sent()
	nettest.Check(t, b.link.Back(func() error {
		conn, err := net.Dial("udp4", awayAddress+":9") // discard
		if err != nil {
			return err
		}
		defer conn.Close()
		packets := ipv4.NewPacketConn(conn.(net.PacketConn))
		begin := time.Now()
		for left := b.frames; left > 0; {
			n, err := packets.WriteBatch(messages[:min(batch, left)], 0)
			if err := errors.Join(err, t.Context().Err()); err != nil {
				return fmt.Errorf("sending packets: %w", err)
			}
			left -= n
		}
		m.took = time.Since(begin)
		return nil
	}))
	m.received = sent() - before
}
