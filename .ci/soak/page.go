package main

import (
	"fmt"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// tally is network-layer bytes in both directions, of an address or of all.
type tally struct{ receive, transmit int64 }

// page is what a metrics page says.
type page struct {
	hosts   map[string]tally // by address, as it is written there; "other" are those that had no room
	expired tally            // of addresses that have left the page

	packets, dropped       int64 // of the capture, whatever their outcome
	expiredIPs, evictedIPs int64
	tracked                int64
	pushFailures           int64
}

// parsePage reads a page in Prometheus' text format.
func parsePage(text string) (*page, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("metrics page: %w", err)
	}
	p := &page{hosts: make(map[string]tally)}
	for _, m := range families["promflow_receive_bytes_total"].GetMetric() {
		host := p.hosts[label(m, "ip")]
		host.receive = value(m)
		p.hosts[label(m, "ip")] = host
	}
	for _, m := range families["promflow_transmit_bytes_total"].GetMetric() {
		host := p.hosts[label(m, "ip")]
		host.transmit = value(m)
		p.hosts[label(m, "ip")] = host
	}
	for _, m := range families["promflow_expired_bytes"].GetMetric() {
		switch direction := label(m, "direction"); direction {
		case "receive":
			p.expired.receive = value(m)
		case "transmit":
			p.expired.transmit = value(m)
		default:
			return nil, fmt.Errorf("metrics page: promflow_expired_bytes has the direction %q", direction)
		}
	}
	for name, to := range map[string]*int64{
		"promflow_capture_packets_total":         &p.packets,
		"promflow_capture_dropped_packets_total": &p.dropped,
		"promflow_tracked_ips":                   &p.tracked,
		"promflow_expired_ips":                   &p.expiredIPs,
		"promflow_evicted_ips_total":             &p.evictedIPs,
		"promflow_export_failures_total":         &p.pushFailures,
	} {
		for _, m := range families[name].GetMetric() {
			*to += value(m)
		}
	}
	return p, nil
}

func label(m *dto.Metric, name string) string {
	for _, pair := range m.Label {
		if pair.GetName() == name {
			return pair.GetValue()
		}
	}
	return ""
}

// value is that of a counter or gauge: exact up to 2^53.
func value(m *dto.Metric) int64 {
	return int64(m.GetCounter().GetValue() + m.GetGauge().GetValue() + m.GetUntyped().GetValue())
}

// sum is everything that was ever counted, of addresses on the page or not.
func (p *page) sum() tally {
	sum := p.expired
	for _, host := range p.hosts {
		sum.receive += host.receive
		sum.transmit += host.transmit
	}
	return sum
}

// less tells whether a tally has gone backwards from before.
func (t tally) less(before tally) bool {
	return t.receive < before.receive || t.transmit < before.transmit
}
