package live

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"promflow/app/privilege"
	"promflow/capture"
	"promflow/capture/backend/netflow"
	"promflow/capture/backend/sflow"
	"promflow/capture/flow"
	"promflow/capture/frame"
	"promflow/capture/subnets"
	"promflow/capture/watch"
	"promflow/telemetry"
)

// protocols are those of flow exporters.
var protocols = []*flow.Protocol{&netflow.Protocol, &sflow.Protocol}

// Flows configures a collector of flows.
type Flows struct {
	Addresses map[string]string // by the name of the protocol
	From      map[string]string // the flags or variables of the addresses, for messages
	Exporters subnets.Set       // who may send
	Rate      uint32            // how much records are multiplied by; 0: as exporters say
	Direction flow.Direction    // of the records that count; Unknown: both
}

// Protocols returns the protocols of flow exporters.
func Protocols() []*flow.Protocol { return protocols }

// protocolOf returns the protocol with a name, or nil.
func protocolOf(name string) *flow.Protocol {
	for _, p := range protocols {
		if p.Name == name {
			return p
		}
	}
	return nil
}

// CollectsFlows tells whether a value of --capture is a protocol of flow exporters.
func CollectsFlows(backend string) bool { return protocolOf(backend) != nil }

// openFlows starts to collect flows.
func openFlows(c Config, p *flow.Protocol) (*Live, error) {
	c.Names = watch.Names{}
	l, err := prepare(c)
	if err != nil {
		return nil, err
	}
	if l.subnets.auto != nil {
		return nil, fmt.Errorf("%s %q: auto stands for the subnets of interfaces, and --capture=%s has none: name yours, such as 10.0.0.0/8",
			c.Lists.MonitoredFrom, c.Lists.Monitored, p.Name)
	}
	if err := privilege.Raise(); err != nil {
		return nil, err
	}
	address, from := c.Flows.Addresses[p.Name], c.Flows.From[p.Name]
	collector, err := flow.Open(flow.Config{
		Protocol: p, Address: address, Exporters: c.Flows.Exporters, Rate: c.Flows.Rate, Direction: c.Flows.Direction, Table: c.Table, Log: c.Log,
	})
	if errors.Is(err, syscall.EADDRINUSE) {
		err = fmt.Errorf("%w: is another collector running?", err)
	}
	if errors.Is(err, os.ErrPermission) {
		err = fmt.Errorf("%w: a port below 1024 needs cap_net_bind_service: run promflow as root, or take another port", err)
	}
	if err != nil {
		return nil, fmt.Errorf("%s %q: %w", from, address, err)
	}
	l.flows, l.Backend = collector, p.Name
	l.sources, l.capture = flowSources{collector}, capture.Opener(nil)
	c.Log.Info("collecting flows", "protocol", p.Title, "address", collector.Address, "exporters", c.Flows.Exporters, "monitored", c.Table.Subnets().Monitored)
	return l, nil
}

// flowSources is a collector as sources.
type flowSources struct{ *flow.Collector }

// Keeps returns nothing.
func (flowSources) Keeps() []string { return nil }

// Statuses has the exporters in place of interfaces.
func (f flowSources) Statuses() (all []watch.Status) {
	for _, s := range f.Collector.Statuses() {
		all = append(all, watch.Status{Interface: s.Exporter, Status: s.Status})
	}
	return all
}

// Exporters returns the state of the address for flow exporters, and of each of them; nil for a capture on interfaces.
func (l *Live) Exporters() []flow.Status {
	if l.flows == nil {
		return nil
	}
	return l.flows.Statuses()
}

// exporters returns the state of exporters in place of interfaces.
func exporters(c *flow.Collector) (all []telemetry.Interface) {
	for _, s := range c.Statuses() {
		i := telemetry.Interface{Name: s.Exporter, Backend: c.Protocol.Name, Up: s.Up, Dropped: s.Dropped}
		if s.Exporter == flow.Gone {
			i.Backend = ""
		}
		record := func(outcome string, n int64) {
			i.Records = append(i.Records, telemetry.Outcome{Name: outcome, Packets: n})
		}
		if s.Socket {
			i.Refused = &s.Refused
			record(frame.Malformed.String(), s.Records[frame.Malformed])
		} else {
			i.Outcomes = Outcomes(s.Outcomes)
			for o, n := range s.Records {
				record(frame.Outcome(o).String(), n)
			}
			record("empty", s.Empty)
			record("other_direction", s.OtherWay)
			record("no_template", s.NoTemplate)
		}
		all = append(all, i)
	}
	return all
}
