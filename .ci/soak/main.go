// soak runs promflow for a long time, or under a flood from forged addresses, on traffic of which it knows every byte, and sees
// whether promflow keeps its promises. Its README has the details.
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
	"time"
)

// options is what the flags say.
type options struct {
	promflow    string        // the program; if empty, it is built
	captures    []string      // backends, one after the other
	maxIPs      int           // promflow's --max-ips
	expireAfter time.Duration // promflow's --expire-after

	duration  time.Duration
	rate      int           // packets a second
	scrape    time.Duration // between two scrapes
	collector string        // the program, or none
	config    string        // of the collector
	restart   time.Duration // how often the collector is killed
	grows     float64       // share by which memory may be above what it was early

	spoof     bool
	rounds    int
	frames    int     // of each flood
	keepsRate float64 // share of the normal rate that a flood from forged addresses leaves at least

	progress io.Writer // is told what happens
}

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
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

const introduction = `soak runs promflow on traffic of which it knows every byte, and ends with status 1 if promflow breaks a promise. It must run
as root.

   go run ./.ci/soak [flags]           paced traffic, addresses that come and go, a collector that is restarted
   go run ./.ci/soak -spoof [flags]    floods from forged addresses beside floods from a few

`

// parse reads the flags. Its error is flag.ErrHelp if help was asked for, and has been written to out.
func parse(args []string, out io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("soak", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // main prints the error
	flags.StringVar(&o.promflow, "promflow", "", "the promflow `program`; if empty, it is built from this module")
	captures := flags.String("capture", "ebpf,afpacket", "`backends`, separated by commas: one run each")
	flags.IntVar(&o.maxIPs, "max-ips", 0, "promflow's --max-ips; 0 is 4096, or with -spoof 65536")
	flags.DurationVar(&o.expireAfter, "expire-after", 30*time.Second, "promflow's --expire-after")
	flags.DurationVar(&o.duration, "duration", 20*time.Minute, "how long the traffic goes on")
	flags.IntVar(&o.rate, "rate", 200_000, "packets a second")
	flags.DurationVar(&o.scrape, "scrape", time.Second, "time between two scrapes")
	flags.StringVar(&o.collector, "collector", "otelcol-promflow", "the OpenTelemetry collector's `program`; none for none")
	flags.StringVar(&o.config, "collector-config", "examples/otel-collector/collector.yaml", "configuration `file` of the collector")
	flags.DurationVar(&o.restart, "restart", time.Minute, "how often the collector is killed; it is down for a tenth of that")
	flags.Float64Var(&o.grows, "grows", 0.05, "`share` by which resident memory at the end may be above that after 5 minutes, or half of a shorter run")
	flags.BoolVar(&o.spoof, "spoof", false, "flood from forged addresses")
	flags.IntVar(&o.rounds, "rounds", 5, "with -spoof, rounds of a flood from each kind of sources")
	flags.IntVar(&o.frames, "frames", 10_000_000, "with -spoof, frames of a flood")
	flags.Float64Var(&o.keepsRate, "keeps-rate", 2./3, "with -spoof, `share` of the normal rate that must be left")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			flags.SetOutput(out)
			fmt.Fprint(out, introduction)
			flags.PrintDefaults()
		}
		return o, err
	}
	o.captures = strings.Split(*captures, ",")
	if o.spoof {
		o.maxIPs = cmp.Or(o.maxIPs, 65536)
	}
	o.maxIPs = cmp.Or(o.maxIPs, 4096)
	return o, o.check(flags.Args())
}

// check says what is wrong with the options, or with the arguments behind them.
func (o options) check(args []string) error {
	switch {
	case len(args) > 0:
		return fmt.Errorf("unexpected argument %q", args[0])
	case slices.Contains(o.captures, ""):
		return errors.New("-capture: a backend has no name")
	case o.maxIPs < 4*constants:
		return fmt.Errorf("-max-ips=%d: want at least %d, as %d addresses never rest", o.maxIPs, 4*constants, constants)
	case o.expireAfter < time.Second:
		return fmt.Errorf("-expire-after=%v: want at least 1s", o.expireAfter)
	case o.duration < time.Second || o.scrape <= 0 || o.restart < time.Second:
		return errors.New("-duration and -restart are at least 1s, -scrape more than 0")
	case o.rate < 1000:
		return fmt.Errorf("-rate=%d: want at least 1000", o.rate)
	case o.rounds < 1 || o.frames < 1:
		return errors.New("-rounds and -frames are at least 1")
	}
	return nil
}
