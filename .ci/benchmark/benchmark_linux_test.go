package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"promflow/capture/nettest"
)

// start runs a benchmark and gives what it wrote.
func start(ctx context.Context, t *testing.T, o options) (string, error) {
	t.Helper()
	nettest.NeedRoot(t)
	nettest.Need(t, "ip", "ethtool")
	files := t.TempDir()
	t.Setenv("TMPDIR", files)
	if o.progress == nil {
		o.progress = t.Output()
	}
	var out strings.Builder
	err := run(ctx, o, &out)
	if errors.Is(err, unix.EINVAL) {
		nettest.Lacks(t, "Linux 5.18 for live XDP frames")
	}
	if left, _ := os.ReadDir(files); len(left) > 0 {
		t.Errorf("the benchmark leaves %s", left[0].Name())
	}
	if left, err := children(); len(left) > 0 || err != nil {
		t.Errorf("the benchmark leaves processes %v (%v)", left, err)
	}
	return out.String(), err
}

// children gives the processes that this one has started and that still run.
func children() (ids []string, err error) {
	files, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ESRCH) { // threads come and go
			return nil, err
		}
		ids = append(ids, strings.Fields(string(text))...)
	}
	return ids, nil
}

// rowsOf gives the cells of a table's rows by their tool, and the lines below it.
func rowsOf(text string) (rows map[string][]string, notes []string) {
	rows = make(map[string][]string)
	for line := range strings.Lines(text) {
		switch {
		case strings.HasPrefix(line, "| "):
			cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
			for i := range cells {
				cells[i] = strings.TrimSpace(cells[i])
			}
			rows[cells[0]] = cells[1:]
		case strings.HasPrefix(line, "- "):
			notes = append(notes, line)
		}
	}
	return rows, notes
}

func TestEveryTool(t *testing.T) {
	nettest.Need(t, "pmacctd", "pmacct", "darkstat", "tcpdump")
	for _, c := range []struct {
		name string
		send bool
	}{{"flood", false}, {"sending", true}} {
		t.Run(c.name, func(t *testing.T) {
			o := options{frames: 200_000, hosts: 254, size: 60, rounds: 1, send: c.send, monitor: "10.0.0.0/16"}
			o.tools = o.all()
			text, err := start(t.Context(), t, o)
			if err != nil {
				t.Fatal(err)
			}
			t.Log(text)
			rows, notes := rowsOf(text)
			for _, tool := range o.tools {
				t.Run(tool, func(t *testing.T) { checkRow(t, tool, rows[tool]) })
			}
			for _, note := range notes {
				if strings.HasPrefix(note, "- none") || strings.HasPrefix(note, "- floor") || strings.HasPrefix(note, "- promflow") {
					t.Error(note)
				}
			}
		})
	}
}

// checkRow checks that all cells of a tool are there which it has, and that promflow counts every packet.
func checkRow(t *testing.T, tool string, cells []string) {
	t.Helper()
	switch {
	case tool == "floor-tcx" && len(cells) > 0 && strings.HasPrefix(cells[0], "refused"):
		nettest.KernelLacks(t, "tcx ("+cells[0]+")")
	case len(cells) != 7 || !positive(cells[0]) || !positive(cells[1]) || !positive(cells[2]):
		t.Errorf("the row of %s is %q", tool, cells)
	case tool == "none" || strings.HasPrefix(tool, "floor"):
	case !positive(strings.TrimSuffix(cells[3], " %")) || !positive(cells[6]):
		t.Errorf("the row of %s is %q", tool, cells)
	case strings.HasPrefix(tool, "promflow") && tool != "promflow-afpacket" && cells[3] != "100 %":
		t.Errorf("%s counts %s in the kernel", tool, cells[3])
	}
}

func TestEveryCollector(t *testing.T) {
	nettest.Need(t, "nfacctd", "sfacctd")
	text, err := start(t.Context(), t, options{flows: true, records: 150_001, rounds: 1, tools: flowToolNames, monitor: "10.0.0.0/16"})
	if err != nil {
		t.Fatal(err)
	}
	t.Log(text)
	rows, _ := rowsOf(text)
	for _, tool := range flowToolNames {
		cells := rows[tool]
		if len(cells) != 5 || !positive(cells[0]) || !positive(cells[1]) || !positive(cells[2]) {
			t.Errorf("the row of %s is %q", tool, cells)
		} else if strings.HasPrefix(tool, "promflow") && (cells[3] != "0" || cells[4] != "0") {
			t.Errorf("%s loses %s records, and %s hosts are wrong", tool, cells[3], cells[4])
		}
	}
}

func positive(cell string) bool {
	var value float64
	n, err := fmt.Sscan(cell, &value)
	return n == 1 && err == nil && value > 0
}

func TestRefusal(t *testing.T) {
	program := filepath.Join(t.TempDir(), "promflow")
	script := "#!/bin/sh\nif [ \"$1\" = --version ]; then echo promflow version 1.2.3; exit; fi\necho first\necho 'promflow: not | here' >&2\nexit 1\n"
	if err := os.WriteFile(program, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	o := options{promflow: program, frames: 1000, hosts: 1, size: 60, rounds: 2, tools: []string{"floor", "promflow-afpacket"}, monitor: "10.0.0.0/16"}
	text, err := start(t.Context(), t, o)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(text, `| promflow-afpacket | refused: promflow: not \| here |`) || !strings.Contains(text, "promflow 1.2.3") {
		t.Errorf("the table is\n%s", text)
	}
	if rows, _ := rowsOf(text); rows["floor"][2] != "1.000" {
		t.Errorf("the row of floor is %q", rows["floor"])
	}
}

// received is an interface's line of /proc/net/dev, if it has received something: bytes, packets and more.
var received = regexp.MustCompile(`(?m)^\s*` + nettest.Receiving + `:\s*\d+\s+[1-9]`)

func TestInterruption(t *testing.T) {
	nettest.Need(t, "tcpdump")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	begun := new(beginning)
	o := options{frames: math.MaxInt32, hosts: 1, size: 60, rounds: 1, tools: []string{"tcpdump"}, monitor: "10.0.0.0/16", progress: begun}
	go func() { // cancels in the middle of the flood
		defer cancel()
		for ; ctx.Err() == nil; time.Sleep(time.Millisecond) {
			if !begun.is.Load() {
				continue
			}
			ids, err := children()
			if err != nil {
				t.Error(err)
				return
			}
			for _, id := range ids {
				devices, _ := os.ReadFile("/proc/" + id + "/net/dev") // of the namespace that it is in
				if received.Match(devices) {
					return
				}
			}
		}
	}()
	if text, err := start(ctx, t, o); !errors.Is(err, context.Canceled) || text != "" {
		t.Errorf("it ended with %v and wrote %q", err, text)
	}
}

// beginning is a writer that notes that something is written.
type beginning struct{ is atomic.Bool }

func (b *beginning) Write(p []byte) (int, error) {
	b.is.Store(true)
	return len(p), nil
}

func TestNotInstalled(t *testing.T) {
	tool := &tool{name: "example", command: []string{"sh"}, programs: []string{"nosuchprogram"}, debian: "nosuchpackage"}
	before := slices.Clone(tool.command)
	if missing := tool.missing(); !strings.Contains(missing, "nosuchprogram") || !strings.Contains(missing, "apt-get install nosuchpackage") {
		t.Errorf("it says %q", missing)
	}
	if !slices.Equal(tool.command, before) {
		t.Errorf("the command has become %q", tool.command)
	}
}
