package main

import (
	"bytes"
	"errors"
	"flag"
	"slices"
	"strings"
	"testing"
	"time"
)

// counted is a measurement of a flood of 1000 frames a millisecond.
func counted(packets, bytes, dropped int64, took time.Duration) measurement {
	return measurement{
		received: 1000, took: took, cpu: 500 * time.Microsecond, memory: 3 << 19,
		counts: &counts{packets, bytes, dropped},
	}
}

func TestTable(t *testing.T) {
	table := &table{frames: 1000, size: 60, notes: []string{"This is a test."}}
	table.add("none").rounds = []measurement{{received: 1000, took: time.Millisecond}}
	table.add("floor").rounds = []measurement{
		{received: 1000, took: time.Millisecond},
		{received: 999, took: 10 * time.Millisecond},
		{received: 1000, took: 2 * time.Millisecond},
	}
	table.add("exact").rounds = []measurement{counted(1000, 46_000, 0, 4*time.Millisecond)}
	table.add("drops").rounds = []measurement{
		counted(999, -1, 1, time.Millisecond), counted(998, -1, 2, time.Millisecond),
		counted(997, -1, 3, time.Millisecond), counted(996, -1, 4, time.Millisecond),
	}
	table.add("errs").rounds = []measurement{
		counted(900, 41_400, 90, time.Millisecond), counted(900, 41_401, 100, time.Millisecond), counted(1002, 46_092, 0, time.Millisecond),
	}
	table.add("absent").refused = "not | here"
	const want = `| tool | kpps | of none | of floor | counted | dropped | CPU µs | MiB |
|---|--:|--:|--:|--:|--:|--:|--:|
| none | 1000 | 1.000 | 2.000 |  |  |  |  |
| floor | 500 | 0.500 | 1.000 |  |  |  |  |
| exact | 250 | 0.250 | 0.500 | 100 % | 0 % | 0.500 | 1.5 |
| drops | 1000 | 1.000 | 2.000 | 99.75 % | 0.25 % | 0.500 | 1.5 |
| errs | 1000 | 1.000 | 2.000 | 90.00 % | 9.00 % | 0.500 | 1.5 |
| absent | refused: not \| here |  |  |  |  |  |  |

- This is a test.
- floor: up to 1 frames did not come out of the veth pair, in 1 of 3 rounds.
- errs: up to 10 packets were neither counted nor said to be dropped, in 1 of 3 rounds.
- errs: up to 2 packets too many were counted or said to be dropped, in 1 of 3 rounds.
- errs: the bytes counted were wrong by up to 1 for the packets counted, in 1 of 3 rounds.
`
	var got strings.Builder
	if err := table.write(&got); err != nil {
		t.Fatal(err)
	}
	if got.String() != want {
		t.Errorf("the table is\n%s\nwant\n%s", &got, want)
	}
}

// TestOwnFloors has each tool at half the rate of what it is compared with.
func TestOwnFloors(t *testing.T) {
	for _, c := range []struct {
		tool, floor string
		send        bool
	}{
		{"promflow-ebpf", "floor", false},
		{"promflow-ebpf", "floor", true},
		{"promflow-xdp", "floor-xdp-pass", false},
		{"promflow-xdp", "floor-tcx", true},
		{"promflow-xdp-mirror", "floor-xdp-drop", false},
		{"tcpdump", "floor", true},
	} {
		table := &table{frames: 1000, send: c.send}
		for _, floor := range []string{"floor", "floor-xdp-pass", "floor-xdp-drop", "floor-tcx"} {
			took := time.Second // too slow
			if floor == c.floor {
				took = time.Millisecond
			}
			table.add(floor).rounds = []measurement{{received: 1000, took: took}}
		}
		table.add(c.tool).rounds = []measurement{{received: 1000, took: 2 * time.Millisecond}}
		var got strings.Builder
		if err := table.write(&got); err != nil {
			t.Fatal(err)
		}
		for tool, want := range map[string]string{c.floor: "1000 |  | 1.000", c.tool: "500 |  | 0.500"} {
			if row := "\n| " + tool + " | " + want + " |"; !strings.Contains(got.String(), row) {
				t.Errorf("%s is not compared with %s (sending: %v):\n%s", c.tool, c.floor, c.send, &got)
			}
		}
	}
}

func TestFlowTable(t *testing.T) {
	table := &table{flows: true}
	table.add("exact").rounds = []measurement{
		{received: 2000, took: time.Millisecond, cpu: time.Millisecond, memory: 3 << 19, counts: &counts{packets: 2000}},
		{received: 2000, took: 2 * time.Millisecond, cpu: time.Millisecond, memory: 3 << 19, counts: &counts{packets: 2000}},
		{received: 2000, took: 4 * time.Millisecond, cpu: time.Millisecond, memory: 3 << 19, counts: &counts{packets: 2000}},
	}
	table.add("loses").rounds = []measurement{
		{received: 2000, took: time.Millisecond, counts: &counts{packets: 2000}},
		{received: 2000, took: time.Millisecond, counts: &counts{packets: 500}, wrong: 2345},
	}
	table.add("absent").refused = "not | here"
	const want = `| tool | krecords/s | CPU ns | MiB | lost | wrong |
|---|--:|--:|--:|--:|--:|
| exact | 1000 | 500 | 1.5 | 0 | 0 |
| loses | 2000 | 0 | 0.0 | 1,500 | 2,345 |
| absent | refused: not \| here |  |  |  |  |
`
	var got strings.Builder
	if err := table.write(&got); err != nil {
		t.Fatal(err)
	}
	if got.String() != want {
		t.Errorf("the table is\n%s\nwant\n%s", &got, want)
	}
}

func TestAlmostAll(t *testing.T) {
	r := row{tool: "tool", rounds: []measurement{{
		received: 10_000_000, took: time.Second, counts: &counts{packets: 9_999_999, dropped: 1},
	}}}
	if cells := r.cells(1, 1); cells[4] != "99.99 %" || cells[5] != "0.01 %" {
		t.Errorf("one packet of ten million is lost, and the cells are %q", cells)
	}
}

func TestFlags(t *testing.T) {
	var help bytes.Buffer
	o, err := parse(nil, &help)
	if err != nil || o.frames != 10_000_000 || o.hosts != 254 || o.size != 60 || o.rounds != 5 || len(o.tools) != len(toolNames) || o.monitor != "10.0.0.0/16" {
		t.Errorf("the defaults are %+v (%v)", o, err)
	}
	if o, err := parse([]string{"-hosts=65537"}, &help); err != nil || o.monitor != "10.0.0.0/8" {
		t.Errorf("of 65537 hosts %s is monitored (%v)", o.monitor, err)
	}
	if o, err := parse([]string{"-send"}, &help); err != nil || !o.send || !slices.Equal(o.tools, sendToolNames) {
		t.Errorf("of sending the defaults are %+v (%v)", o, err)
	}
	if o, err := parse([]string{"-flows"}, &help); err != nil || !slices.Equal(o.tools, flowToolNames) || o.records != 2_000_000 {
		t.Errorf("of flows the defaults are %+v (%v)", o, err)
	}
	if _, err := parse([]string{"-h"}, &help); !errors.Is(err, flag.ErrHelp) || !strings.Contains(help.String(), "of floor ") {
		t.Errorf("-h gives %v and prints %s", err, &help)
	}
	if _, err := parse([]string{"-send", "-flows"}, &help); err == nil {
		t.Error("-send and -flows are accepted together")
	}
	for _, wrong := range []string{"-frames=0", "-hosts=0", "-hosts=16777217", "-size=59", "-size=1515", "-rounds=0", "-tools=nosuch", "-tools=nfacctd", "-tools=floor-tcx", "-records=0", "-tools=none,none", "argument", "-nosuch"} {
		if _, err := parse([]string{wrong}, &help); err == nil {
			t.Errorf("%s is accepted", wrong)
		}
	}
}
