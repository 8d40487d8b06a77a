package telemetry

import (
	"slices"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

func TestDeltas(t *testing.T) {
	type delta struct{ value, start, at int64 } // times in seconds
	d := newDeltas()
	for _, step := range []struct {
		name    string
		total   int64
		at      int64 // the total's
		arrives bool
		want    []delta
	}{
		{"new", 10, 1, true, []delta{{10, 0, 1}}},
		{"moved", 15, 2, true, []delta{{5, 1, 2}}},
		{"unmoved", 15, 3, true, nil},
		{"moved, lost", 20, 4, false, []delta{{5, 3, 4}}},
		{"moved after a loss", 27, 5, true, []delta{{12, 3, 5}}},
		{"begun anew, lost", 3, 6, false, []delta{{3, 5, 6}}},
		{"begun anew", 4, 7, true, []delta{{4, 5, 7}}},
		{"moved since", 5, 8, true, []delta{{1, 7, 8}}},
	} {
		batch := &metricdata.ResourceMetrics{ScopeMetrics: []metricdata.ScopeMetrics{{Metrics: []metricdata.Metrics{
			{Name: "c", Data: metricdata.Sum[int64]{Temporality: metricdata.CumulativeTemporality, IsMonotonic: true,
				DataPoints: []point{{Attributes: attribute.NewSet(), StartTime: time.Unix(0, 0), Time: time.Unix(step.at, 0), Value: step.total}}}},
		}}}}
		var got []delta
		for _, scope := range d.of(batch).ScopeMetrics {
			for _, m := range scope.Metrics {
				sum := m.Data.(metricdata.Sum[int64])
				if sum.Temporality != metricdata.DeltaTemporality || !sum.IsMonotonic {
					t.Errorf("%s: %+v", step.name, sum)
				}
				for _, p := range sum.DataPoints {
					got = append(got, delta{p.Value, p.StartTime.Unix(), p.Time.Unix()})
				}
			}
		}
		if !slices.Equal(got, step.want) {
			t.Errorf("%s: got %v, want %v", step.name, got, step.want)
		}
		if sum := batch.ScopeMetrics[0].Metrics[0].Data.(metricdata.Sum[int64]); sum.DataPoints[0].Value != step.total {
			t.Errorf("%s: the total became %d", step.name, sum.DataPoints[0].Value)
		}
		if step.arrives {
			d.acknowledge(batch)
		}
	}
}

// A series is a metric with its attributes, and a gauge has no deltas.
func TestDeltasBySeries(t *testing.T) {
	d := newDeltas()
	ip := func(s string) attribute.Set { return attribute.NewSet(attribute.String("ip", s)) }
	counter := func(name string, points ...point) metricdata.Metrics {
		return metricdata.Metrics{Name: name, Data: metricdata.Sum[int64]{IsMonotonic: true, DataPoints: points}}
	}
	batch := func(a, b, c, gauge int64) *metricdata.ResourceMetrics {
		return &metricdata.ResourceMetrics{ScopeMetrics: []metricdata.ScopeMetrics{{Metrics: []metricdata.Metrics{
			counter("x", point{Attributes: ip("a"), Value: a}, point{Attributes: ip("b"), Value: b}),
			counter("y", point{Attributes: ip("a"), Value: c}),
			{Name: "g", Data: metricdata.Gauge[int64]{DataPoints: []point{{Value: gauge}}}},
		}}}}
	}
	d.acknowledge(batch(1, 2, 3, 4))
	var got []int64
	for _, m := range d.of(batch(11, 22, 3, 4)).ScopeMetrics[0].Metrics {
		for _, p := range pointsOf(m.Data) {
			got = append(got, p.Value)
		}
	}
	if want := []int64{10, 20, 4}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
