package exposition

import (
	"math"

	dto "github.com/prometheus/client_model/go"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"google.golang.org/protobuf/encoding/protowire"
)

// protobuf is MetricFamily messages, each after its length. Counters have the time at which they were created.
type protobuf struct{}

// Numbers of fields, of https://github.com/prometheus/client_model/blob/master/io/prometheus/client/metrics.proto.
const (
	familyName, familyHelp, familyType, familyMetric = 1, 2, 3, 4

	metricLabel, metricGauge, metricCounter = 1, 2, 3

	labelName, labelValue           = 1, 2
	number                          = 1 // of a gauge and of a counter
	counterCreated                  = 3
	timestampSeconds, timestampNano = 1, 2
)

// lengthRoom is what the longest length takes.
const lengthRoom = 10

func (protobuf) head(b []byte, f *family) []byte {
	b = append(b, make([]byte, lengthRoom)...)
	b = appendString(b, familyName, f.name)
	b = appendString(b, familyHelp, f.help)
	kind := dto.MetricType_GAUGE
	if f.counter {
		kind = dto.MetricType_COUNTER
	}
	return appendVarint(b, familyType, uint64(kind))
}

func (protobuf) point(b []byte, f *family, p *metricdata.DataPoint[int64]) []byte {
	var scratch [32]byte
	value := protowire.AppendTag(scratch[:0], number, protowire.Fixed64Type)
	value = protowire.AppendFixed64(value, math.Float64bits(float64(p.Value)))
	field := protowire.Number(metricGauge)
	if f.counter {
		field = metricCounter
		if !p.StartTime.IsZero() {
			var time [24]byte
			created := appendVarint(time[:0], timestampSeconds, uint64(p.StartTime.Unix()))
			created = appendVarint(created, timestampNano, uint64(p.StartTime.Nanosecond()))
			value = appendBytes(value, counterCreated, created)
		}
	}

	size := sizeBytes(field, len(value))
	n := p.Attributes.Len()
	for i := range n {
		a, _ := p.Attributes.Get(i)
		size += sizeBytes(metricLabel, sizeBytes(labelName, len(a.Key))+sizeBytes(labelValue, len(a.Value.AsString())))
	}
	b = protowire.AppendTag(b, familyMetric, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(size))
	for i := range n {
		a, _ := p.Attributes.Get(i)
		s := a.Value.AsString()
		b = protowire.AppendTag(b, metricLabel, protowire.BytesType)
		b = protowire.AppendVarint(b, uint64(sizeBytes(labelName, len(a.Key))+sizeBytes(labelValue, len(s))))
		b = appendString(b, labelName, string(a.Key))
		b = appendString(b, labelValue, s)
	}
	return appendBytes(b, field, value)
}

// tail puts the family's length where head left room for it, and closes the gap.
func (protobuf) tail(b []byte, _ *family, begin int) []byte {
	body := b[begin+lengthRoom:]
	withLength := protowire.AppendVarint(b[:begin], uint64(len(body)))
	return append(withLength, body...) // they overlap, which append is fine with
}

func sizeBytes(field protowire.Number, n int) int {
	return protowire.SizeTag(field) + protowire.SizeBytes(n)
}

func appendString(b []byte, field protowire.Number, s string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), s)
}

func appendBytes(b []byte, field protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), v)
}

func appendVarint(b []byte, field protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), v)
}
