package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"promflow/.ci/watched"
	"promflow/capture/nettest"
)

// benchmark is what all measurements share.
type benchmark struct {
	options
	dir   string // for files
	link  *nettest.Link
	flood *nettest.Flood

	recordings map[string]*recording // by the protocol
}

// run measures all tools in all rounds and writes what came of it, as Markdown.
func run(ctx context.Context, o options, out io.Writer) error {
	return nettest.Try(ctx, func(t nettest.TB) {
		nettest.NeedRoot(t)
		b := benchmark{options: o, dir: t.TempDir(), recordings: map[string]*recording{}}
		results := &table{flows: o.flows, send: o.send, frames: o.frames, size: o.size}
		tools, versions := b.contenders(t, results)
		b.link = nettest.NewLink(t)
		if b.link.OneCPU {
			results.notes = append(results.notes, "The sender and the tools shared the only processor: the figures mean little.")
		}
		traffic := fmt.Sprintf("%s of %d bytes from %s", watched.Plural(o.frames, "frame"), o.size, watched.Plural(o.hosts, "host"))
		switch {
		case o.flows:
			traffic = fmt.Sprintf("%s of %s", watched.Plural(o.records, "record"), watched.Plural(flowHosts, "host"))
			b.link.Sender.IP("addr", "add", exporterAddress+"/24", "dev", nettest.Sending)
			b.link.Receiver.IP("addr", "add", collectorAddress+"/24", "dev", nettest.Receiving)
		case o.send:
			traffic = fmt.Sprintf("%s of %d bytes from a socket", watched.Plural(o.frames, "frame"), o.size)
			b.prepareSending()
		default:
			b.flood = nettest.NewFlood(t, b.link, o.hosts, o.size)
		}
		b.measureAll(t, tools)
		traffic += ", " + watched.Plural(o.rounds, "round")
		header := append([]string{time.Now().Format(time.DateOnly) + ", " + watched.Machine(), traffic}, versions...)
		_, err := fmt.Fprintf(out, "%s:\n\n", strings.Join(header, "; "))
		nettest.Check(t, errors.Join(err, results.write(out)))
	})
}

// contender is a tool and its row in the table.
type contender struct {
	*tool
	row *row
}

// contenders makes the tools that are installed, with a row in the table for each, and tells their versions.
func (b *benchmark) contenders(t nettest.TB, results *table) (tools []contender, versions []string) {
	for _, name := range b.tools {
		if strings.HasPrefix(name, "promflow-") && b.promflow == "" {
			b.promflow = watched.Build(t, b.dir)
		}
		tool := newTool(t, name, b.options, b.dir)
		if missing := tool.missing(); missing != "" {
			results.notes = append(results.notes, missing)
			continue
		}
		if tool.command != nil {
			version := filepath.Base(tool.command[0]) + " " + tool.shortVersion(t)
			if !slices.Contains(versions, version) { // promflow has several rows
				versions = append(versions, version)
			}
		}
		tools = append(tools, contender{tool, results.add(name)})
	}
	return tools, versions
}

// measureAll measures each tool once a round, so that what else the machine does meets all of them.
func (b *benchmark) measureAll(t nettest.TB, tools []contender) {
	for round := range b.rounds {
		for _, tool := range tools {
			if tool.row.refused != "" {
				continue
			}
			fmt.Fprintf(b.progress, "round %d: %s", round+1, tool.name)
			var m measurement
			err := nettest.Try(t.Context(), func(t nettest.TB) { m = b.measure(t, tool.tool) })
			var refused *watched.Refusal
			switch {
			case errors.As(err, &refused):
				tool.row.refused = refused.Reason
			case err != nil:
				fmt.Fprintln(b.progress)
				t.Fatal(fmt.Errorf("%s: %w", tool.name, err))
			default:
				tool.row.rounds = append(tool.row.rounds, m)
			}
			fmt.Fprintf(b.progress, " %s\n", tool.row.last())
		}
	}
}

// measure has a tool watch a flood, or what is sent, or collect flows.
func (b *benchmark) measure(t nettest.TB, tool *tool) (m measurement) {
	if tool.protocol != "" {
		return b.collect(t, tool)
	}
	traffic := b.inundate
	if b.send {
		traffic = b.transmit
	}
	if tool.floor != nil {
		openFloor(t, b.link, tool.floor)
	}
	if tool.command == nil {
		traffic(t, &m)
		return m
	}
	p := watched.Start(t, b.link, filepath.Join(b.dir, tool.name+".log"), tool.command...)
	t.Cleanup(p.Stop)
	p.WaitReady(func() error { return tool.ready(p) })
	before, _ := p.Usage()
	traffic(t, &m)
	m.cpu = p.Idle() - before
	_, m.memory = p.Usage() // before its answers take any
	m.counts = new(counts)
	// Asked again and again, until it has counted all packets, or nothing changes any more.
	watched.Settle(t, 500*time.Millisecond, func() (same, done bool) {
		before := *m.counts
		*m.counts = tool.counts(t, p)
		return *m.counts == before, m.counts.packets+m.counts.dropped == m.received
	})
	nettest.Check(t, p.Alive())
	return m
}

// inundate sends one flood and sees what comes out of the link.
func (b *benchmark) inundate(_ nettest.TB, m *measurement) {
	before := b.link.Received()
	m.took = b.flood.Send(b.frames)
	m.received = b.link.Received() - before
}
