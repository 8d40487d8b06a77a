package otlp

import (
	"maps"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"promflow/telemetry"
)

// deltas computes how much counters have grown since the collector last received them. The SDK's deltas are those between collections,
// and are lost with a failed export.
type deltas struct {
	received map[series]received
	kept     func() map[attribute.Distinct]bool // the attributes of addresses that can have points again
	prune    int                                // the number of received series from which on others are forgotten
}

// minPrune is the least number of series at which any are forgotten.
const minPrune = 1 << 12

// series is a metric and its attributes.
type series struct {
	metric     string
	attributes attribute.Distinct
}

// received is the last total that the collector received, its time, and when it began: one that begins anew has another begin.
type received struct {
	total     int64
	at, began time.Time
}

func newDeltas(kept func() map[attribute.Distinct]bool) *deltas {
	return &deltas{received: map[series]received{}, kept: kept, prune: minPrune}
}

// pass takes what an earlier process had counted as received.
func (d *deltas) pass(source *telemetry.Source) {
	if len(d.kept()) == 0 { // it has read nothing
		return
	}
	for metric, p := range source.Restored() {
		d.receive(metric, p)
	}
}

// of returns metrics with deltas for their counters, without those that have not grown.
func (d *deltas) of(metrics []metricdata.Metrics) (grown []metricdata.Metrics) {
	for _, m := range metrics {
		if sum, counter := m.Data.(metricdata.Sum[int64]); counter {
			sum.Temporality = metricdata.DeltaTemporality
			sum.DataPoints = d.points(m.Name, sum.DataPoints)
			if m.Data = sum; len(sum.DataPoints) == 0 {
				continue
			}
		}
		grown = append(grown, m)
	}
	return grown
}

func (d *deltas) points(metric string, totals []metricdata.DataPoint[int64]) (grown []metricdata.DataPoint[int64]) {
	for _, p := range totals {
		last, known := d.received[series{metric, p.Attributes.Equivalent()}]
		if known && p.StartTime.Equal(last.began) { // else it was reset
			p.StartTime = telemetry.AsOf(p.Time, last.at)
			if last.total <= p.Value { // else it was reset, too
				p.Value -= last.total
			}
		}
		if !known || p.Value > 0 {
			grown = append(grown, p)
		}
	}
	return grown
}

// acknowledge records that the collector has received metrics, which have totals.
func (d *deltas) acknowledge(metrics []metricdata.Metrics) {
	for _, m := range metrics {
		sum, _ := m.Data.(metricdata.Sum[int64]) // without points for a gauge
		for _, p := range sum.DataPoints {
			d.receive(m.Name, p)
		}
	}
}

func (d *deltas) receive(metric string, p metricdata.DataPoint[int64]) {
	d.received[series{metric, p.Attributes.Equivalent()}] = received{p.Value, p.Time, p.StartTime}
}

// forget removes the series of addresses that were evicted: if they return, their counters begin at 0. Call it after a collection, which
// may have the last points of such an address.
func (d *deltas) forget() {
	if len(d.received) < d.prune {
		return
	}
	kept := d.kept()
	maps.DeleteFunc(d.received, func(s series, _ received) bool { return telemetry.ByAddress(s.metric) && !kept[s.attributes] })
	d.prune = max(minPrune, 2*len(d.received))
}
