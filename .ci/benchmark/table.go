package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"promflow/.ci/watched"
	"promflow/capture/nettest"
)

const columnsHelp = `The columns; each is the median of the rounds:

   kpps       thousand packets a second that came out of the veth pair while the tool watched it, or with -send went in
   of none    kpps as a share of those with none: what is left of the rate
   of floor   kpps as a share of those with the tool's floor: what is left of the rate that any such tool allows
   counted    share of the packets that the tool counted; 100 % is every single one, anything less is rounded down
   dropped    share of the packets that the tool says were dropped before it could count them, rounded up
   CPU µs     processor time of the tool's processes per packet, counted or not; work of the kernel shows in the rate
   MiB        most memory that the tool's processes had resident, capture buffers included

and the tools:

   none       nothing watches the interface
   floor      a packet socket watches it whose filter takes no packet: the floor of all tools but those with xdp in their names
   floor-xdp-pass, floor-xdp-drop
              an XDP program does so with every packet that is received: the floors of promflow-xdp and promflow-xdp-mirror
   floor-tcx  a tcx program lets every packet pass that is sent: with -send the floor of promflow-xdp
   promflow-* promflow, with --capture=*; promflow-xdp-mirror has --mirror, too
   pmacctd, darkstat, tcpdump
              peers that count by address, and one that writes packets to /dev/null

A line below the table tells where packets counted and dropped are not all packets, or bytes counted not those of the packets.

The columns with -flows; the first three are medians, the others the worst of the rounds:

   krecords/s thousand records a second, while the tool had some to count
   CPU ns     processor time of the tool's processes per record
   MiB        most memory that the tool's processes had resident
   lost       records that were not counted
   wrong      hosts whose bytes are not exactly those that were sent

and the tools: promflow with --capture=netflow and --capture=sflow, and pmacct's nfacctd and sfacctd.
`

// measurement is what one tool did in one round.
type measurement struct {
	received int64         // packets that came out of the veth pair, or records of flows that were sent
	took     time.Duration // for these to be sent, and records counted
	counts   *counts       // of the tool; nil if it has none
	cpu      time.Duration // of its processes
	memory   int64         // most bytes that its processes had resident
	wrong    int           // hosts of flows whose bytes are not exactly those that were sent
}

// counts is what a tool says of the packets it saw.
type counts struct {
	packets int64
	bytes   int64 // network-layer bytes of these packets; -1 if it does not say
	dropped int64 // packets that it could not count
}

// table is what all tools did.
type table struct {
	flows        bool // records instead of packets
	send         bool // packets that left by the watched interface, instead of those that came in
	frames, size int  // of a flood
	rows         []*row
	notes        []string // on the whole run
}

// row is what one tool did.
type row struct {
	flows   bool
	tool    string
	refused string // why the tool did not run; empty if it did
	rounds  []measurement
}

// add adds a row for a tool.
func (t *table) add(tool string) *row {
	r := &row{tool: tool, flows: t.flows}
	t.rows = append(t.rows, r)
	return r
}

// write writes the table as Markdown.
func (t *table) write(w io.Writer) error {
	var b strings.Builder
	if t.flows {
		b.WriteString("| tool | krecords/s | CPU ns | MiB | lost | wrong |\n|---|--:|--:|--:|--:|--:|\n")
	} else {
		b.WriteString("| tool | kpps | of none | of floor | counted | dropped | CPU µs | MiB |\n|---|--:|--:|--:|--:|--:|--:|--:|\n")
	}
	rates := make(map[string]float64)
	for _, r := range t.rows {
		if len(r.rounds) > 0 {
			rates[r.tool] = watched.Median(r.rounds, rate)
		}
	}
	notes := slices.Clone(t.notes)
	for _, r := range t.rows {
		if t.flows {
			fmt.Fprintf(&b, "| %s |\n", strings.Join(r.flowCells(), " | "))
			continue
		}
		fmt.Fprintf(&b, "| %s |\n", strings.Join(r.cells(rates["none"], rates[t.floorOf(r.tool)]), " | "))
		notes = append(notes, t.discrepancies(r)...)
	}
	for i, note := range notes {
		if i == 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "- %s\n", note)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// floorOf names what a tool is compared with.
func (t *table) floorOf(tool string) string {
	switch {
	case strings.HasPrefix(tool, "floor-"):
		return tool
	case tool == "promflow-xdp" && t.send:
		return "floor-tcx"
	case tool == "promflow-xdp":
		return "floor-xdp-pass"
	case tool == "promflow-xdp-mirror":
		return "floor-xdp-drop"
	}
	return "floor"
}

// discrepancies tells in which ways the figures of a row do not fit together.
func (t *table) discrepancies(r *row) []string {
	var notes []string
	if r.refused != "" {
		return nil
	}
	tell := func(format string, amount func(measurement) int64) {
		worst, rounds := int64(0), 0
		for _, m := range r.rounds {
			if n := amount(m); n > 0 {
				worst, rounds = max(worst, n), rounds+1
			}
		}
		if rounds > 0 {
			text := fmt.Sprintf(format, watched.Grouped(int(worst)))
			notes = append(notes, fmt.Sprintf("%s: %s, in %d of %s.", r.tool, text, rounds, watched.Plural(len(r.rounds), "round")))
		}
	}
	missing := "up to %s frames did not come out of the veth pair"
	if t.send {
		missing = "up to %s frames did not go into the veth pair"
	}
	tell(missing, func(m measurement) int64 { return int64(t.frames) - m.received })
	if len(r.rounds) == 0 || r.rounds[0].counts == nil {
		return notes
	}
	tell("up to %s packets were neither counted nor said to be dropped", func(m measurement) int64 {
		return m.received - m.counts.packets - m.counts.dropped
	})
	tell("up to %s packets too many were counted or said to be dropped", func(m measurement) int64 {
		return m.counts.packets + m.counts.dropped - m.received
	})
	tell("the bytes counted were wrong by up to %s for the packets counted", func(m measurement) int64 {
		if m.counts.bytes < 0 {
			return 0
		}
		off := m.counts.bytes - m.counts.packets*int64(t.size-nettest.HeaderSize)
		return max(off, -off)
	})
	return notes
}

// cells gives the cells of a row. The rates of none and of the tool's floor are 0 if they were not measured.
func (r *row) cells(none, floor float64) []string {
	cells := []string{r.tool, r.refusal(), "", "", "", "", "", ""}
	if r.refused != "" || len(r.rounds) == 0 {
		return cells
	}
	kpps := watched.Median(r.rounds, rate)
	cells[1] = fmt.Sprintf("%.0f", kpps)
	for i, base := range []float64{none, floor} {
		if base > 0 {
			cells[2+i] = fmt.Sprintf("%.3f", kpps/base)
		}
	}
	if r.rounds[0].counts == nil {
		return cells
	}
	cells[4] = percent(math.Floor, watched.Median(r.rounds, func(m measurement) float64 { return share(m.counts.packets, m.received) }))
	cells[5] = percent(math.Ceil, watched.Median(r.rounds, func(m measurement) float64 { return share(m.counts.dropped, m.received) }))
	cells[6] = fmt.Sprintf("%.3f", watched.Median(r.rounds, func(m measurement) float64 { return share(m.cpu.Nanoseconds(), m.received) / 1000 }))
	cells[7] = fmt.Sprintf("%.1f", watched.Median(r.rounds, mebibytes))
	return cells
}

// flowCells gives the cells of a row of a collector of flows.
func (r *row) flowCells() []string {
	if len(r.rounds) == 0 {
		return []string{r.tool, r.refusal(), "", "", "", ""}
	}
	var lost, wrong int
	for _, m := range r.rounds {
		lost, wrong = max(lost, int(m.received-m.counts.packets)), max(wrong, m.wrong)
	}
	return []string{
		r.tool,
		fmt.Sprintf("%.0f", watched.Median(r.rounds, rate)),
		fmt.Sprintf("%.0f", watched.Median(r.rounds, func(m measurement) float64 { return share(m.cpu.Nanoseconds(), m.received) })),
		fmt.Sprintf("%.1f", watched.Median(r.rounds, mebibytes)),
		watched.Grouped(lost), watched.Grouped(wrong),
	}
}

func (r *row) refusal() string {
	if r.refused == "" {
		return ""
	}
	return "refused: " + strings.ReplaceAll(r.refused, "|", `\|`)
}

func mebibytes(m measurement) float64 { return float64(m.memory) / (1 << 20) }

// rate is in thousand packets a second.
func rate(m measurement) float64 { return float64(m.received) / m.took.Seconds() / 1000 }

func share(n, of int64) float64 { return float64(n) / float64(max(of, 1)) }

// percent writes a share with two decimals, but without any if it is none or all.
func percent(round func(float64) float64, share float64) string {
	if hundredths := round(share * 10_000); share != 0 && share != 1 {
		return fmt.Sprintf("%.2f %%", hundredths/100)
	}
	return fmt.Sprintf("%.0f %%", share*100)
}

// last tells of the last measurement.
func (r *row) last() string {
	if r.refused != "" {
		return "refused: " + r.refused
	}
	m := r.rounds[len(r.rounds)-1]
	unit := "kpps"
	if r.flows {
		unit = "krecords/s"
	}
	text := fmt.Sprintf("%.0f %s", rate(m), unit)
	if m.counts != nil {
		text += ", counted " + percent(math.Floor, share(m.counts.packets, m.received))
	}
	return text
}
