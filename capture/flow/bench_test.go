package flow_test

import (
	"encoding/binary"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"promflow/capture"
	"promflow/capture/backend/netflow"
	"promflow/capture/flow"
	"promflow/capture/frame"
	"promflow/capture/subnets"
)

// BenchmarkCollect decodes and counts flows between any two of 65,536 addresses: NetFlow v9, 28 flows to a datagram, 64 datagrams at once.
// An operation is a flow.
func BenchmarkCollect(b *testing.B) {
	const hosts, flows, datagrams, batches = 1 << 16, 28, 64, 64
	var monitored, exporters subnets.Set
	from := netip.MustParseAddrPort("192.0.2.1:50000")
	table := capture.NewTable(hosts, 0).Monitor(capture.Subnets{Monitored: monitored.With("", netip.MustParsePrefix("10.0.0.0/16"))})
	c, err := flow.Open(flow.Config{
		Protocol: &netflow.Protocol, Address: "127.0.0.1:0", Exporters: exporters.With("", netip.MustParsePrefix("192.0.2.0/24")),
		Direction: flow.Ingress, Table: table, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	var template []byte // of a set of templates with one, 256, as routers send it: elements and their lengths
	fields := [][2]uint16{{8, 4}, {12, 4}, {15, 4}, {10, 4}, {14, 4}, {2, 4}, {1, 4}, {21, 4}, {22, 4}, {7, 2}, {11, 2}, {6, 1}, {4, 1}, {5, 1}, {61, 1}}
	for _, n := range [][2]uint16{{0, uint16(8 + 4*len(fields))}, {256, uint16(len(fields))}} {
		template = be.AppendUint16(be.AppendUint16(template, n[0]), n[1])
	}
	for _, f := range fields {
		template = be.AppendUint16(be.AppendUint16(template, f[0]), f[1])
	}
	random := rand.New(rand.NewPCG(1, 2))
	datagram := func() []byte {
		const flowLen = 9*4 + 2*2 + 4
		d := append(be.AppendUint16(be.AppendUint16(nil, 9), flows+1), make([]byte, 16)...)
		d = append(d, template...)
		d = be.AppendUint16(be.AppendUint16(d, 256), 4+flows*flowLen)
		for range flows {
			for _, n := range []uint32{10<<24 + random.Uint32N(hosts), 10<<24 + random.Uint32N(hosts), 0, 1, 2, 3, 3000, 5000, 4000} {
				d = be.AppendUint32(d, n)
			}
			d = append(be.AppendUint16(be.AppendUint16(d, 443), 50000), 0x1b, 6, 0, 0)
		}
		return d
	}
	var all [batches][][]byte
	for i := range all {
		for range datagrams {
			all[i] = append(all[i], datagram())
		}
	}
	var batch flow.Batch
	var sequence uint32
	receive := func(data [][]byte) {
		for _, d := range data {
			be.PutUint32(d[12:], sequence)
			sequence++
		}
		if c.Receive(data, from, time.Now(), &batch) > 0 {
			b.Fatal("datagrams are refused")
		}
	}
	for _, data := range all { // the table gets all addresses
		receive(data)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; n += flows * datagrams {
		receive(all[n/(flows*datagrams)%batches])
	}
	b.StopTimer()
	for _, s := range c.Statuses() {
		if counted := s.Records[frame.Counted]; !s.Socket && (counted < int64(b.N) || s.Dropped > 0) {
			b.Fatalf("%d flows are counted and %d lost, want %d", counted, s.Dropped, b.N)
		}
	}
}

var be = binary.BigEndian
