package exposition

import (
	"math"

	dto "github.com/prometheus/client_model/go"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"google.golang.org/protobuf/encoding/protowire"
)

// protobuf is delimited MetricFamily messages: each follows its length. Counters have their creation time.
type protobuf struct{ metric, field []byte } // buffers

// Field numbers of https://github.com/prometheus/client_model/blob/master/io/prometheus/client/metrics.proto.
const (
	familyName, familyHelp, familyType, familyMetric = 1, 2, 3, 4

	metricLabel, metricGauge, metricCounter = 1, 2, 3

	labelName, labelValue           = 1, 2
	number                          = 1 // of Gauge and Counter
	counterCreated                  = 3
	timestampSeconds, timestampNano = 1, 2
)

// lengthRoom is the size of the longest varint.
const lengthRoom = 10

func (*protobuf) head(b []byte, f *family) []byte {
	b = append(b, make([]byte, lengthRoom)...)
	b = appendBytes(b, familyName, f.name)
	b = appendBytes(b, familyHelp, f.help)
	return appendVarint(b, familyType, uint64(f.kind))
}

func (f *protobuf) point(b []byte, of *family, p *metricdata.DataPoint[int64]) []byte {
	f.metric = f.metric[:0]
	for i := range p.Attributes.Len() {
		a, _ := p.Attributes.Get(i)
		f.field = appendBytes(f.field[:0], labelName, string(a.Key))
		f.field = appendBytes(f.field, labelValue, a.Value.AsString())
		f.metric = appendBytes(f.metric, metricLabel, f.field)
	}
	f.field = protowire.AppendTag(f.field[:0], number, protowire.Fixed64Type)
	f.field = protowire.AppendFixed64(f.field, math.Float64bits(float64(p.Value)))
	kind := protowire.Number(metricGauge)
	if of.kind == dto.MetricType_COUNTER {
		kind = metricCounter
		if !p.StartTime.IsZero() {
			var scratch [24]byte
			created := appendVarint(scratch[:0], timestampSeconds, uint64(p.StartTime.Unix()))
			created = appendVarint(created, timestampNano, uint64(p.StartTime.Nanosecond()))
			f.field = appendBytes(f.field, counterCreated, created)
		}
	}
	f.metric = appendBytes(f.metric, kind, f.field)
	return appendBytes(b, familyMetric, f.metric)
}

// tail writes the family's length into the room that head left, and closes the gap.
func (*protobuf) tail(b []byte, begin int) []byte {
	body := b[begin+lengthRoom:]
	withLength := protowire.AppendVarint(b[:begin], uint64(len(body)))
	return append(withLength, body...) // append may overlap
}

func appendBytes[T string | []byte](b []byte, field protowire.Number, v T) []byte {
	b = protowire.AppendVarint(protowire.AppendTag(b, field, protowire.BytesType), uint64(len(v)))
	return append(b, v...)
}

func appendVarint(b []byte, field protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), v)
}
