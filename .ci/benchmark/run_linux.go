package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"promflow/.ci/testbed"
)

// benchmark is what all measurements share.
type benchmark struct {
	options
	dir   string // for files
	link  *testbed.Link
	flood *testbed.Flood
}

// run measures all tools in all rounds and writes what came of it, as Markdown.
func run(ctx context.Context, o options, out io.Writer) (err error) {
	if err := testbed.Check(); err != nil {
		return err
	}
	b := benchmark{options: o}
	if b.dir, err = os.MkdirTemp("", "promflow-benchmark-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	results := &table{frames: o.frames, size: o.size}
	tools, versions, err := b.contenders(ctx, results)
	if err != nil {
		return err
	}
	floodCPU, toolCPU, err := testbed.PickCPUs()
	if err != nil {
		return err
	}
	if floodCPU == toolCPU {
		results.notes = append(results.notes, "The flood and the tools shared the only processor: the figures mean little.")
	}
	if b.link, err = testbed.NewLink(floodCPU, toolCPU); err != nil {
		return err
	}
	defer b.link.Close()
	if b.flood, err = testbed.NewFlood(b.link, o.hosts, o.size); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.flood.Close()) }()
	if err := b.measureAll(ctx, tools); err != nil {
		return err
	}
	machine, err := testbed.Machine()
	if err != nil {
		return err
	}
	traffic := fmt.Sprintf("%s of %d bytes from %s, %s", testbed.Plural(o.frames, "frame"), o.size, testbed.Plural(o.hosts, "host"), testbed.Plural(o.rounds, "round"))
	header := strings.Join(append([]string{time.Now().Format(time.DateOnly) + ", " + machine, traffic}, versions...), "; ")
	if _, err := fmt.Fprintf(out, "%s:\n\n", header); err != nil {
		return err
	}
	return results.write(out)
}

// contender is a tool and its row in the table.
type contender struct {
	*tool
	row *row
}

// contenders makes the tools that are installed, with a row in the table for each, and tells their versions.
func (b *benchmark) contenders(ctx context.Context, results *table) (tools []contender, versions []string, err error) {
	for _, name := range b.tools {
		if strings.HasPrefix(name, "promflow-") && b.promflow == "" {
			if b.promflow, err = testbed.Build(ctx, b.dir); err != nil {
				return nil, nil, err
			}
		}
		t, err := newTool(name, b.options, b.dir)
		if err != nil {
			return nil, nil, err
		}
		if missing := t.missing(); missing != "" {
			results.notes = append(results.notes, missing)
			continue
		}
		if t.command != nil {
			version, err := t.shortVersion(ctx)
			if err != nil {
				return nil, nil, err
			}
			version = filepath.Base(t.command[0]) + " " + version
			if len(versions) == 0 || versions[len(versions)-1] != version { // promflow has several rows
				versions = append(versions, version)
			}
		}
		tools = append(tools, contender{t, results.add(name)})
	}
	return tools, versions, nil
}

// measureAll measures each tool once a round, so that what else the machine does meets all of them.
func (b *benchmark) measureAll(ctx context.Context, tools []contender) error {
	for round := range b.rounds {
		for _, t := range tools {
			if t.row.refused != "" {
				continue
			}
			fmt.Fprintf(b.progress, "round %d: %s", round+1, t.name)
			m, err := b.measure(ctx, t.tool)
			var refused *testbed.Refusal
			switch {
			case errors.As(err, &refused):
				t.row.refused = refused.Reason
			case err != nil:
				fmt.Fprintln(b.progress)
				return fmt.Errorf("%s: %w", t.name, err)
			default:
				t.row.rounds = append(t.row.rounds, m)
			}
			fmt.Fprintf(b.progress, " %s\n", t.row.last())
		}
	}
	return nil
}

// measure floods a tool.
func (b *benchmark) measure(ctx context.Context, t *tool) (m measurement, err error) {
	if t.socket {
		floor, err := openFloor(b.link)
		if err != nil {
			return m, err
		}
		defer func() { err = errors.Join(err, floor.Close()) }()
	}
	if t.command == nil {
		err := b.inundate(ctx, &m)
		return m, err
	}
	p, err := testbed.StartProcess(b.link, filepath.Join(b.dir, t.name+".log"), t.command)
	if err != nil {
		return m, err
	}
	defer func() {
		if failed := p.Stop(); failed != nil { // worse than what may have been before: it would disturb the others
			err = failed
		}
	}()
	if err := p.WaitReady(ctx, t.ready); err != nil {
		return m, err
	}
	before, _, err := p.Usage()
	if err != nil {
		return m, err
	}
	if err := b.inundate(ctx, &m); err != nil {
		return m, err
	}
	after, err := p.Idle(ctx)
	if err != nil {
		return m, err
	}
	m.cpu = after - before
	if _, m.memory, err = p.Usage(); err != nil { // before its answers take any
		return m, err
	}
	c, err := settled(ctx, m.received, func() (counts, error) { return t.counts(ctx, p) })
	if err != nil {
		return m, err
	}
	m.counts = &c
	return m, p.Alive()
}

// inundate sends one flood and sees what comes out of the link.
func (b *benchmark) inundate(ctx context.Context, m *measurement) error {
	before, err := b.link.Received()
	if err != nil {
		return err
	}
	if m.took, err = b.flood.Send(ctx, b.frames); err != nil {
		return err
	}
	after, err := b.link.Received()
	m.received = after - before
	return err
}

// settled asks a tool for its counts until they are those of all packets, or stay the same for a while.
func settled(ctx context.Context, all int64, ask func() (counts, error)) (c counts, err error) {
	const look, same = 100 * time.Millisecond, 500 * time.Millisecond
	since, last := time.Now(), time.Time{}
	err = testbed.Poll(ctx, 10*time.Second, func() (bool, error) {
		if time.Since(last) < look {
			return false, nil
		}
		now, err := ask()
		last = time.Now()
		if now != c {
			since = last
		}
		c = now
		return c.packets+c.dropped == all || time.Since(since) > same, err
	})
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = nil
	}
	return c, err
}
