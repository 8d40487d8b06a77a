// benchmark compares promflow with other tools that count packets, on a flood of its own. Its README has the details.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

// What can be compared, in the order of the table. A tool that cannot run here gets a row that says so.
var (
	toolNames = []string{"none", "floor", "floor-xdp-pass", "floor-xdp-drop", "promflow-ebpf", "promflow-xdp", "promflow-xdp-mirror",
		"promflow-afpacket", "pmacctd", "darkstat", "tcpdump"}
	sendToolNames = []string{"none", "floor", "floor-tcx", "promflow-ebpf", "promflow-xdp", "promflow-afpacket", "pmacctd", "darkstat", "tcpdump"}
	flowToolNames = []string{"promflow-netflow", "nfacctd", "promflow-sflow", "sfacctd"}
)

// options is what the flags say.
type options struct {
	promflow string // the program; if empty, it is built
	frames   int    // of a flood, or sent
	hosts    int    // source addresses of a flood
	size     int    // bytes of a frame, Ethernet header included
	send     bool   // instead of a flood
	flows    bool   // collect flows instead of packets
	records  int    // of flows
	rounds   int
	tools    []string // names
	monitor  string   // promflow's --monitor-subnets

	progress io.Writer // is told of each measurement
}

const (
	minSize  = 60 // Ethernet's smallest frame; the checksum behind it is not the kernel's
	maxSize  = 14 + 1500
	maxHosts = 1 << 24 // all of 10.0.0.0/8
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	o, err := parse(os.Args[1:], os.Stdout)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err == nil {
		o.progress = os.Stderr
		err = run(ctx, o, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "benchmark:", err)
		os.Exit(1)
	}
}

const introduction = `benchmark floods a veth pair of its own and compares what promflow and other tools count of it. It must run as root.

   go run ./.ci/benchmark [flags]

`

// parse reads the flags. Its error is flag.ErrHelp if help was asked for, and has been written to out.
func parse(args []string, out io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("benchmark", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // main prints the error
	flags.StringVar(&o.promflow, "promflow", "", "the promflow `program`; if empty, it is built from this module")
	flags.IntVar(&o.frames, "frames", 10_000_000, "frames of a flood, or to send")
	flags.IntVar(&o.hosts, "hosts", 254, "source addresses, from 10.0.0.0 up")
	flags.IntVar(&o.size, "size", minSize, "`bytes` of a frame, Ethernet header included")
	flags.BoolVar(&o.send, "send", false, "compare what a program that sends keeps of its rate, instead of a flood")
	flags.BoolVar(&o.flows, "flows", false, "compare how flow records are collected, instead of packets")
	flags.IntVar(&o.records, "records", 2_000_000, "with -flows: flow records, or samples, of a recording")
	flags.IntVar(&o.rounds, "rounds", 5, "rounds; in each of them every tool is measured once")
	flags.StringVar(&o.monitor, "monitor", "", "promflow's --monitor-`subnets`; if empty, 10.0.0.0/16, or 10.0.0.0/8 for more than 65536 hosts")
	tools := flags.String("tools", "", "the `tools` to compare, separated by commas; if empty, all: "+strings.Join(toolNames, ",")+
		"; with -send "+strings.Join(sendToolNames, ",")+"; with -flows "+strings.Join(flowToolNames, ","))
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			flags.SetOutput(out)
			fmt.Fprint(out, introduction)
			flags.PrintDefaults()
			fmt.Fprint(out, "\n"+columnsHelp)
		}
		return o, err
	}
	o.tools = slices.Clone(o.all())
	if *tools != "" {
		o.tools = strings.Split(*tools, ",")
	}
	if o.hosts > 1<<16 {
		o.monitor = cmp.Or(o.monitor, "10.0.0.0/8")
	}
	o.monitor = cmp.Or(o.monitor, "10.0.0.0/16")
	return o, o.check(flags.Args())
}

// all names all tools that can be compared.
func (o options) all() []string {
	switch {
	case o.flows:
		return flowToolNames
	case o.send:
		return sendToolNames
	}
	return toolNames
}

// check says what is wrong with the options, or with the arguments behind them.
func (o options) check(args []string) error {
	for i, tool := range o.tools {
		if !slices.Contains(o.all(), tool) {
			return fmt.Errorf("-tools: %q is none of %s", tool, strings.Join(o.all(), ", "))
		}
		if slices.Contains(o.tools[:i], tool) {
			return fmt.Errorf("-tools: %s is there twice", tool)
		}
	}
	switch {
	case o.send && o.flows:
		return errors.New("-send and -flows: want one of them")
	case len(args) > 0:
		return fmt.Errorf("unexpected argument %q", args[0])
	case o.frames < 1:
		return fmt.Errorf("-frames=%d: want at least 1", o.frames)
	case o.hosts < 1 || o.hosts > maxHosts:
		return fmt.Errorf("-hosts=%d: want 1 to %d", o.hosts, maxHosts)
	case o.size < minSize || o.size > maxSize:
		return fmt.Errorf("-size=%d: want %d to %d bytes", o.size, minSize, maxSize)
	case o.records < 1:
		return fmt.Errorf("-records=%d: want at least 1", o.records)
	case o.rounds < 1:
		return fmt.Errorf("-rounds=%d: want at least 1", o.rounds)
	}
	return nil
}
