package check

import (
	"context"
	"errors"
	"maps"
	"net"
	"net/netip"
	"slices"
	"time"

	"promflow/capture"
	"promflow/capture/detour"
	"promflow/capture/frame"
	"promflow/capture/watch"
)

// Run checks. It takes as long as the setup says, and as long as a collector takes that does not answer. What cannot be found out
// is part of the report; the error says that nothing could.
func Run(ctx context.Context, s Setup) (*Report, error) {
	clock := startClock()
	address := addressFinding(ctx, s.MetricsAddress, s.Refused)
	r := &Report{Interfaces: []Interface{}}
	collector := make(chan Finding, 1)
	// Once privileges are what they are when promflow pushes.
	opened := func() { go func() { collector <- collectorFinding(ctx, s.Push) }() }
	if err := s.capture(ctx, r, opened); err != nil {
		return nil, err
	}
	r.add(clock.finding(), address, <-collector)
	r.add(s.Others...)
	return r, nil
}

// capture reports on what has to do with the capture, and calls opened once that was opened or could not be.
func (s *Setup) capture(ctx context.Context, r *Report, opened func()) error {
	start, err := readPrivileges()
	if err != nil {
		return err
	}
	before, err := links()
	if err != nil {
		return err
	}
	detours := detour.Look() // with the privileges that Open gives up
	var log Log
	c, err := s.Open(ctx, log.Logger())
	opened()
	backend := Finding{Name: "backend", Details: log.Take()}
	if err != nil {
		privileges, why := privilegesFinding(start, start, false, nil), &backend
		backend.Status, backend.Summary = Error, "cannot capture"
		if dropped := (*DropError)(nil); errors.As(err, &dropped) {
			privileges.Status, privileges.Summary = Error, privileges.Summary+", which cannot be given up as promflow does"
			backend, why = Finding{Name: "backend", Summary: "promflow could capture", Details: backend.Details}, &privileges
		}
		for _, e := range unjoin(err) {
			why.detail("%v", e)
		}
		r.add(backend, privileges)
		for _, name := range s.Interfaces {
			if l, ok := before[name]; ok {
				r.add(linkFinding(l))
			}
		}
		return nil
	}
	now, err := readPrivileges()
	if err != nil {
		return errors.Join(err, c.Stop(), c.Close())
	}
	all, hosts, err := s.count(ctx, r, c)
	if err := errors.Join(err, c.Close()); err != nil {
		return err
	}

	r.Backend = c.Backend
	backend.Summary = c.Backend
	if len(backend.Details) > 0 {
		backend.Status = Info
	}
	r.add(backend, privilegesFinding(start, now, true, c.Keeps))
	if waited := s.waited(before); len(waited) > 0 {
		r.add(waited...)
	} else if len(all) == 0 {
		r.add(Finding{Name: "interface", Status: Error, Summary: "no interface is being captured"})
	}
	t := traffic{monitored: s.Monitored, hosts: hosts}
	var names []string
	for _, o := range all {
		names = append(names, o.link.Name)
		known, err := features(o.link.Name)
		r.add(interfaceFinding(before[o.link.Name], o.link, s.Promiscuous), offloadsFinding(o.link.Name, known, err),
			o.shareFinding(), o.dropsFinding())
		r.Interfaces = append(r.Interfaces, o.result())
		for i, size := range o.status.Outcomes {
			t.outcomes[i].Packets += size.Packets
			t.outcomes[i].Bytes += size.Bytes
		}
		t.own = append(t.own, addresses(o.link.Name)...)
	}
	r.add(flowtablesFindings(detours, names)...)
	r.add(ipsecFindings(detours, names, s.Monitored, s.Excluded)...)
	r.add(t.directionsFinding(), t.subnetsFinding(), t.monitoredFinding())
	if lines := log.Take(); len(lines) > 0 {
		r.add(Finding{Name: "log", Status: Warning, Summary: "while it captured, promflow warned", Details: lines})
	}
	return nil
}

// count counts for a while, and gives what was counted by interface, in the order of their names, and by address.
func (s *Setup) count(ctx context.Context, r *Report, c *Capture) ([]*observed, []capture.Host, error) {
	// The kernel's counters are read on both sides of promflow's own: so their true growth has a bound on each side.
	first, err := bracket(c)
	if err != nil {
		return nil, nil, errors.Join(err, c.Stop())
	}
	s.Log.Debug("counting", "duration", s.Duration)
	begin := time.Now()
	select {
	case <-ctx.Done():
	case <-time.After(s.Duration):
	}
	r.Duration = time.Since(begin).Seconds()
	stopped := error(nil)
	last, err := bracket(&Capture{Read: func() map[string]capture.Status {
		stopped = c.Stop()
		return c.Read()
	}})
	if err := errors.Join(err, stopped); err != nil {
		return nil, nil, err
	}
	var all []*observed
	for _, name := range slices.Sorted(maps.Keys(last.statuses)) {
		link, there := last.earlier[name]
		was, wasThere := first.later[name]
		if !there && !wasThere {
			continue // see waited
		}
		if !there || !wasThere || link.Index != was.Index {
			r.add(Finding{Name: "interface", Interface: name, Status: Warning, Summary: "it came or went meanwhile; try again"})
			continue
		}
		all = append(all, &observed{
			link:   link,
			status: minus(last.statuses[name], first.statuses[name]),
			least:  link.Counters.minus(was.Counters),
			most:   last.later[name].Counters.minus(first.earlier[name].Counters),
		})
	}
	hosts := c.Table.Snapshot().Hosts
	return all, hosts, nil
}

// waited is about what was asked for, by name or glob, and not there.
func (s *Setup) waited(there map[string]Link) (all []Finding) {
	names := slices.Collect(maps.Keys(there))
	for _, name := range s.Interfaces {
		if !slices.ContainsFunc(names, watch.Names{Exact: []string{name}, Globs: []string{name}}.Match) {
			all = append(all, Finding{Name: "interface", Interface: name, Status: Warning, Summary: "it is not there yet; promflow waits for it"})
		}
	}
	return all
}

// bracketed is promflow's counts, and the kernel's before and after.
type bracketed struct {
	earlier, later map[string]Link
	statuses       map[string]capture.Status
}

func bracket(c *Capture) (b bracketed, err error) {
	if b.earlier, err = links(); err != nil {
		return b, err
	}
	b.statuses = c.Read()
	b.later, err = links()
	return b, err
}

func minus(a, b capture.Status) capture.Status {
	a.Dropped -= b.Dropped
	for i := range frame.Outcomes {
		a.Outcomes[i].Packets -= b.Outcomes[i].Packets
		a.Outcomes[i].Bytes -= b.Outcomes[i].Bytes
	}
	return a
}

// addresses gives an interface's addresses, with their subnets.
func addresses(name string) (all []netip.Prefix) {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return nil
	}
	list, err := i.Addrs()
	if err != nil {
		return nil
	}
	for _, a := range list {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			all = append(all, p)
		}
	}
	return all
}
