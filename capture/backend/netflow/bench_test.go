package netflow

import (
	"testing"

	"promflow/capture/flow"
)

// BenchmarkDecode decodes datagrams of full size. An operation is a record.
func BenchmarkDecode(b *testing.B) {
	var v5, v9, ipfix exporter
	const records = 28
	fields := append([]f{{4, 1, 0}, {10, 4, 0}, {14, 4, 0}, {7, 2, 0}, {11, 2, 0}, {5, 1, 0}, {6, 1, 0}, {21, 4, 0}, {22, 4, 0}, {61, 1, 0}}, ipv4Template...)
	one := row(byte(6), 1, 2, uint16(80), uint16(1024), byte(0), byte(0), 0, 0, byte(0), "10.0.0.1", "192.0.2.9", 3000, 3)
	varying := append([]f{{82, 65535, 0}}, fields...)
	var r5, r9, r10, rv [][]byte
	for range records {
		r5 = append(r5, v5Record("10.0.0.1", "192.0.2.9", 1, 3, 3000, 6))
		r9, r10 = append(r9, one), append(r10, one)
		rv = append(rv, row(byte(4), []byte("eth0")), one)
	}
	for _, c := range []struct {
		name           string
		template, data []byte
	}{
		{"v5", nil, v5.v5(0, r5...)},
		{"v9", v9.v9(makeSet(0, makeTemplate(300, fields...))), v9.v9(makeSet(300, r9...))},
		{"IPFIX", ipfix.ipfix(0, makeSet(2, makeTemplate(300, fields...))), ipfix.ipfix(0, makeSet(300, r10...))},
		{"IPFIX with variable lengths", ipfix.ipfix(0, makeSet(2, makeTemplate(301, varying...))), ipfix.ipfix(0, makeSet(301, rv...))},
	} {
		b.Run(c.name, func(b *testing.B) {
			d := newDecoder()
			var sink discard
			if c.template != nil {
				d.Decode(flow.Datagram{Data: c.template, At: start}, &sink)
			}
			b.ReportAllocs()
			for n := 0; n < b.N; n += records {
				d.Decode(flow.Datagram{Data: c.data, At: start}, &sink)
			}
			if sink.records < b.N {
				b.Fatalf("%d records are decoded, want %d", sink.records, b.N)
			}
		})
	}
}
