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

// Run checks. It takes as long as the setup says, or longer if a collector does not answer. The report includes what cannot be found
// out. An error means that there is no report.
func Run(ctx context.Context, s Setup) (*Report, error) {
	begin := time.Now()
	addresses := []Finding{{Name: addressName, Summary: "none: promflow would open no port"}}
	for i, a := range s.Addresses {
		addresses = append(addresses[:i], addressFinding(ctx, a))
	}
	start, err := readPrivileges()
	if err != nil {
		return nil, err
	}
	before, err := links()
	if err != nil {
		return nil, err
	}
	detours := detour.Look() // it needs privileges that Open drops
	var log Log
	c, openErr := s.Open(ctx, log.Logger())
	collector := make(chan Finding, 1)
	go func() { collector <- collectorFinding(ctx, s.Push) }() // with the privileges that promflow has when it pushes
	r := &Report{Interfaces: []Interface{}}
	backend := Finding{Name: "backend", Details: log.Take()}
	if openErr != nil {
		s.reportFailure(r, openErr, backend, start, before)
	} else {
		now, err := readPrivileges()
		if err != nil {
			return nil, errors.Join(err, c.Stop(), c.Close())
		}
		all, hosts, err := s.count(ctx, r, c)
		if err := errors.Join(err, c.Close()); err != nil {
			return nil, err
		}
		r.Backend, backend.Summary = c.Backend, c.Backend
		if len(backend.Details) > 0 {
			backend.Status = Info
		}
		r.add(backend, privilegesFinding(start, now, c.Keeps))
		s.reportCounts(r, all, hosts, c.Table.Subnets(), before, detours)
		if lines := log.Take(); len(lines) > 0 {
			r.add(Finding{Name: "log", Status: Warning, Summary: "while it captured, promflow warned", Details: lines})
		}
	}
	r.add(clockSince(begin))
	r.add(addresses...)
	r.add(<-collector)
	r.add(s.Others...)
	return r, nil
}

// reportFailure reports that Open has failed.
func (s *Setup) reportFailure(r *Report, err error, backend Finding, start privileges, before map[string]Link) {
	privileges := Finding{Name: "privileges", Summary: "started as " + start.String()}
	if dropped := (*DropError)(nil); errors.As(err, &dropped) {
		backend.Summary = "promflow could capture"
		privileges.set(Error, "%s, which cannot be given up as promflow does", privileges.Summary)
		privileges.reasons(err)
	} else {
		backend.set(Error, "cannot capture")
		backend.reasons(err)
	}
	r.add(backend, privileges)
	for _, name := range s.Interfaces {
		if l, ok := before[name]; ok {
			r.add(linkFinding(l))
		}
	}
}

// reportCounts reports what was counted on all interfaces and of hosts.
func (s *Setup) reportCounts(r *Report, all []*observed, hosts []capture.Host, in capture.Subnets, before map[string]Link, detours *detour.Namespace) {
	if waited := s.waited(before); len(waited) > 0 {
		r.add(waited...)
	} else if len(all) == 0 {
		r.add(Finding{Name: "interface", Status: Error, Summary: "no interface is being captured"})
	}
	t := traffic{monitored: in.Monitored, hosts: hosts}
	var names []string
	for _, o := range all {
		name := o.link.Name
		names = append(names, name)
		known, err := features(name)
		r.add(interfaceFinding(before[name], o.link, s.Promiscuous), offloadsFinding(name, known, err), o.shareFinding(), o.dropsFinding())
		r.Interfaces = append(r.Interfaces, o.result())
		for i, size := range o.status.Outcomes {
			t.outcomes[i].Packets += size.Packets
			t.outcomes[i].Bytes += size.Bytes
		}
		t.own = append(t.own, addresses(name)...)
	}
	r.add(flowtablesFindings(detours, names)...)
	r.add(ipsecFindings(detours, names, in.Monitored, in.Excluded)...)
	r.add(t.directionsFinding(), t.subnetsFinding(), t.monitoredFinding())
}

// count counts for a while. It returns the counts by interface, in the order of their names, and by address.
func (s *Setup) count(ctx context.Context, r *Report, c *Capture) ([]*observed, []capture.Host, error) {
	first, err := bracket(c.Read)
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
	var stopped error
	last, err := bracket(func() map[string]capture.Status {
		stopped = c.Stop()
		return c.Read()
	})
	if err := errors.Join(err, stopped); err != nil {
		return nil, nil, err
	}
	var all []*observed
	for _, name := range slices.Sorted(maps.Keys(last.statuses)) {
		was, is := first.after[name], last.before[name]
		switch {
		case was.Index != is.Index:
			r.add(Finding{Name: "interface", Interface: name, Status: Warning, Summary: "it came or went meanwhile; try again"})
		case is.Index != 0: // else it was never there: see waited
			all = append(all, &observed{
				link:   is,
				status: minus(last.statuses[name], first.statuses[name]),
				least:  is.Counters.minus(was.Counters),
				most:   last.after[name].Counters.minus(first.before[name].Counters),
			})
		}
	}
	return all, c.Table.Snapshot().Hosts, nil
}

// waited reports the names and globs in the setup without an interface.
func (s *Setup) waited(there map[string]Link) (all []Finding) {
	names := slices.Collect(maps.Keys(there))
	for _, name := range s.Interfaces {
		if !slices.ContainsFunc(names, watch.Names{Exact: []string{name}, Globs: []string{name}}.Match) {
			all = append(all, Finding{Name: "interface", Interface: name, Status: Warning, Summary: "it is not there yet; promflow waits for it"})
		}
	}
	return all
}

// bracketed has promflow's counts, and the kernel's before and after they were read.
type bracketed struct {
	before, after map[string]Link
	statuses      map[string]capture.Status
}

func bracket(read func() map[string]capture.Status) (b bracketed, err error) {
	if b.before, err = links(); err != nil {
		return b, err
	}
	b.statuses = read()
	b.after, err = links()
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

// addresses returns the addresses of an interface with their subnets, none if it is gone.
func addresses(name string) (all []netip.Prefix) {
	i, _ := net.InterfaceByName(name)
	list, _ := i.Addrs() // an error for a nil interface
	for _, a := range list {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			all = append(all, p)
		}
	}
	return all
}
