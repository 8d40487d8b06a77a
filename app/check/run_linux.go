package check

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"promflow/capture"
	"promflow/capture/detour"
	"promflow/capture/flow"
	"promflow/capture/frame"
	"promflow/capture/watch"
)

// Run checks. It takes as long as the setup says, or longer if a collector does not answer. The report includes what cannot be found
// out. An error means that there is no report.
func Run(ctx context.Context, s Setup) (*Report, error) {
	begin := time.Now()
	addresses := []Finding{{Name: addressName, Summary: "none: promflow would open no port"}}
	for i, a := range s.Addresses {
		addresses = append(addresses[:i], addressFinding(ctx, a))
	}
	before, err := links()
	if err != nil {
		return nil, err
	}
	start, detours := privileges(), detour.Look() // it needs privileges that Drop gives up
	var log Log
	c, backend, openErr := s.Open(log.Logger())
	var keeps []string
	var listeners []*listener
	if openErr == nil {
		keeps = c.Keeps()
		if !s.Mirror && c.Exporters() == nil {
			listeners = listen(before, s.names().Match)
		}
	}
	dropErr := s.Drop(keeps, log.Logger()) // without a capture, too: the other checks take the privileges of a running promflow
	collector := make(chan Finding, 1)
	go func() { collector <- collectorFinding(ctx, s.Push) }()
	r := &Report{Interfaces: []Interface{}}
	opened, now := Finding{Name: "backend", Summary: backend, Details: log.Take()}, privileges()
	if s.Mirror {
		opened.Summary += ", which drops packets for other machines once they are counted (--mirror)"
	}
	if openErr == nil && dropErr == nil {
		flows := c.Exporters()
		var all []*observed
		var others map[string]float64
		var sends map[string]string
		if flows != nil {
			sends, err = s.collect(ctx, r, c)
		} else {
			all, others, err = s.count(ctx, r, c, listeners)
		}
		flows = c.Exporters()
		if err := errors.Join(err, c.Close()); err != nil {
			return nil, err
		}
		r.Backend = backend
		if len(opened.Details) > 0 {
			opened.Status = Info
		}
		r.add(opened, privilegesFinding(start, now, keeps))
		if flows != nil {
			s.reportExporters(r, flows, sends)
		} else {
			s.reportCounts(r, all, others, before, detours)
		}
		if lines := log.Take(); len(lines) > 0 {
			r.add(Finding{Name: "log", Status: Warning, Summary: "while it captured, promflow warned", Details: lines})
		}
	} else {
		for _, l := range listeners {
			l.close()
		}
		dropped := Finding{Name: "privileges", Summary: "started as " + start}
		if openErr != nil {
			opened.set(Error, "cannot capture")
			opened.reasons(openErr)
		} else {
			opened.Summary = "promflow could capture"
			dropped.set(Error, "%s, which cannot be given up as promflow does", dropped.Summary)
			dropped.reasons(errors.Join(dropErr, c.Close()))
		}
		r.add(opened, dropped)
		for _, name := range s.Interfaces {
			if l, ok := before[name]; ok {
				r.add(linkFinding(l))
			}
		}
	}
	r.add(clockSince(begin))
	r.add(addresses...)
	r.add(<-collector)
	r.add(s.Others...)
	return r, nil
}

// start runs a capture. end ends it, and waits until all is counted.
func start(c Capture) (end func() error) {
	running, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(running) }()
	return func() error {
		stop()
		return <-ended
	}
}

// pass lets time pass in which packets are counted.
func (s *Setup) pass(ctx context.Context, r *Report) {
	s.Log.Debug("counting", "duration", s.Duration)
	begin := time.Now()
	select {
	case <-ctx.Done():
	case <-time.After(s.Duration):
	}
	r.Duration = time.Since(begin).Seconds()
}

// collect collects flows for a while. It returns what exporters send, by their addresses.
func (s *Setup) collect(ctx context.Context, r *Report, c Capture) (sends map[string]string, err error) {
	end := start(c)
	s.pass(ctx, r)
	sends = map[string]string{}
	for _, e := range c.Exporters() {
		sends[e.Exporter] = e.Sends
	}
	return sends, end()
}

// reportExporters reports what exporters have sent. The first status is that of the address for them.
func (s *Setup) reportExporters(r *Report, all []flow.Status, sends map[string]string) {
	r.add(receivingFinding(all[0], len(all)-1))
	in := s.Table.Subnets()
	t := traffic{monitored: in.Monitored, excluded: in.Excluded, hosts: s.Table.Snapshot().Hosts}
	for _, e := range all[1:] {
		e.Sends = cmp.Or(sends[e.Exporter], e.Sends)
		r.Exporters = append(r.Exporters, newExporter(e))
		r.add(exporterFinding(e))
		for o, size := range e.Outcomes {
			t.outcomes[o].Packets += size.Packets
			t.outcomes[o].Bytes += size.Bytes
		}
	}
	r.add(t.subnetsFinding(), t.monitoredFinding())
}

// names are those of the interfaces: each may be a name or a glob.
func (s *Setup) names() watch.Names { return watch.Names{Exact: s.Interfaces, Globs: s.Interfaces} }

// reportCounts reports what was counted on all interfaces. others has which share of what arrives on an interface is for other machines.
func (s *Setup) reportCounts(r *Report, all []*observed, others map[string]float64, before map[string]Link, detours *detour.Namespace) {
	there, waits := slices.Collect(maps.Keys(before)), false
	for _, name := range s.Interfaces {
		if !slices.ContainsFunc(there, watch.Names{Exact: []string{name}, Globs: []string{name}}.Match) {
			r.add(Finding{Name: "interface", Interface: name, Status: Warning, Summary: "it is not there yet; promflow waits for it"})
			waits = true
		}
	}
	if len(all) == 0 && !waits {
		r.add(Finding{Name: "interface", Status: Error, Summary: "no interface is being captured"})
	}
	in := s.Table.Subnets()
	t := traffic{monitored: in.Monitored, excluded: in.Excluded, hosts: s.Table.Snapshot().Hosts}
	var names []string
	for _, o := range all {
		names = append(names, o.Name)
		known, err := features(o.Name)
		link := interfaceFinding(before[o.Name], o.link, s.Promiscuous)
		o.mirrorDetail(&link, others[o.Name], r.Duration, r.Backend)
		r.add(link, offloadsFinding(o.Name, known, err), o.shareFinding(), o.dropsFinding())
		r.Interfaces = append(r.Interfaces, o.Interface)
		for i, size := range o.outcomes {
			t.outcomes[i].Packets += size.Packets
			t.outcomes[i].Bytes += size.Bytes
		}
	}
	t.onLink, _ = watch.OnLink(watch.Names{Exact: names}) // which only help to suggest subnets
	r.add(switchFindings(detours, names)...)
	r.add(flowtablesFindings(detours, names)...)
	r.add(ipsecFindings(detours, names, in.Monitored, in.Excluded)...)
	r.add(t.directionsFinding(), t.subnetsFinding(), t.monitoredFinding())
}

// count counts for a while. It returns the counts by interface, in the order of their names, and what listeners have heard before.
func (s *Setup) count(ctx context.Context, r *Report, c Capture, listeners []*listener) (all []*observed, others map[string]float64, err error) {
	kernel := func() map[string]Link {
		is, failed := links()
		if s.Mirror {
			failed = errors.Join(failed, addDrops(is, s.names().Match))
		}
		err = errors.Join(err, failed)
		return is
	}
	counted := func() map[string]capture.Status {
		c.Read()
		is := map[string]capture.Status{}
		for _, s := range c.Statuses() {
			is[s.Interface] = s.Status
		}
		return is
	}
	end := start(c)

	others = hear(ctx, listeners)
	earliest := kernel()
	first := counted()
	early := kernel()
	s.pass(ctx, r)
	late := kernel()
	err = errors.Join(err, end())
	last := counted()
	latest := kernel()

	for _, name := range slices.Sorted(maps.Keys(last)) {
		was, is := early[name], late[name]
		switch {
		case was.Index != is.Index:
			r.add(Finding{Name: "interface", Interface: name, Status: Warning, Summary: "it came or went meanwhile; try again"})
		case is.Index != 0: // else it was never there, and promflow waits for it
			counted := minus(last[name], first[name])
			least, most := is.Counters.minus(was.Counters), latest[name].Counters.minus(earliest[name].Counters)
			all = append(all, observe(is, counted, least, most))
		}
	}
	return all, others, err
}

func minus(a, b capture.Status) capture.Status {
	a.Dropped -= b.Dropped
	for i := range frame.Outcomes {
		a.Outcomes[i].Packets -= b.Outcomes[i].Packets
		a.Outcomes[i].Bytes -= b.Outcomes[i].Bytes
	}
	return a
}
