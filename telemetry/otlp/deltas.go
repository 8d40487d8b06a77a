package otlp

import (
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"promflow/telemetry"
)

// deltas makes of totals what was added to them since a collector last took them. The SDK would make deltas between
// collections: what an export that failed had in it would be lost.
type deltas struct {
	taken map[series]taken
	keeps func() map[attribute.Distinct]bool // the attributes of addresses that may yet have points
	prune int                                // when so many are taken, those of other addresses are forgotten
}

// minPrune is how many series are taken before any is forgotten.
const minPrune = 1 << 12

// series is a metric and its attributes.
type series struct {
	metric     string
	attributes attribute.Distinct
}

// taken is the total that a collector knows of, and its time.
type taken struct {
	total int64
	at    time.Time
}

func newDeltas(keeps func() map[attribute.Distinct]bool) *deltas {
	return &deltas{taken: map[series]taken{}, keeps: keeps, prune: minPrune}
}

// of gives a copy of batch whose counters are deltas. A counter that has not moved since is left out.
func (d *deltas) of(batch *metricdata.ResourceMetrics) *metricdata.ResourceMetrics {
	moved := metricdata.ResourceMetrics{Resource: batch.Resource}
	for _, scope := range batch.ScopeMetrics {
		var metrics []metricdata.Metrics
		for _, m := range scope.Metrics {
			if sum, counter := m.Data.(metricdata.Sum[int64]); counter {
				sum.Temporality = metricdata.DeltaTemporality
				sum.DataPoints = d.points(m.Name, sum.DataPoints)
				if m.Data = sum; len(sum.DataPoints) == 0 {
					continue
				}
			}
			metrics = append(metrics, m)
		}
		if len(metrics) > 0 {
			moved.ScopeMetrics = append(moved.ScopeMetrics, metricdata.ScopeMetrics{Scope: scope.Scope, Metrics: metrics})
		}
	}
	return &moved
}

func (d *deltas) points(metric string, totals []metricdata.DataPoint[int64]) []metricdata.DataPoint[int64] {
	var moved []metricdata.DataPoint[int64]
	for _, p := range totals {
		last, known := d.taken[series{metric, p.Attributes.Equivalent()}]
		if known && p.StartTime.Before(last.at) { // else it has begun anew since
			p.StartTime = last.at
			if last.total <= p.Value { // else it has, too
				p.Value -= last.total
			}
		}
		if !known || p.Value > 0 {
			moved = append(moved, p)
		}
	}
	return moved
}

// acknowledge takes note that a collector has the totals of batch.
func (d *deltas) acknowledge(batch *metricdata.ResourceMetrics) {
	for _, scope := range batch.ScopeMetrics {
		for _, m := range scope.Metrics {
			if _, counter := m.Data.(metricdata.Sum[int64]); !counter {
				continue
			}
			for _, p := range pointsOf(m.Data) {
				d.taken[series{m.Name, p.Attributes.Equivalent()}] = taken{p.Value, p.Time}
			}
		}
	}
}

// forget forgets the series of addresses that were evicted: should they return, they begin anew. It is for after a collection, as
// what that has may still be there only.
func (d *deltas) forget() {
	if len(d.taken) < d.prune {
		return
	}
	kept := d.keeps()
	for s := range d.taken {
		if telemetry.ByAddress(s.metric) && !kept[s.attributes] {
			delete(d.taken, s)
		}
	}
	d.prune = max(minPrune, 2*len(d.taken))
}
