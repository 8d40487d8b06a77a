package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"promflow/app/live"
	"promflow/capture"
	"promflow/capture/frame"
	"promflow/capture/replay"
	"promflow/telemetry"
)

// replayCommand is promflow replay.
func replayCommand(c *config) *cli.Command {
	var only string
	own := settings{{category: "Replay", name: "replay-interface", holder: "NAME|INDEX", text: &only,
		usage: "count only this interface of a capture that has several, such as those of tcpdump -i any"}}
	taken := append(c.all.named("monitor-subnets", "exclude-subnets", "packets", "max-ips",
		"labels", "peer-subnets", "max-series", "aggregate", "aggregate6"), own...)
	return &cli.Command{
		Name:      "replay",
		Usage:     "count capture files and print the counts",
		UsageText: "promflow replay [flags] FILE...",
		Description: `Counts pcap and pcapng files, plain or compressed with gzip or zstd; - is standard input:

   tcpdump -i eth0 -w - | promflow replay --monitor-subnets=192.168.1.0/24 -

--monitor-subnets takes no auto here: a file does not have the subnets of its interfaces.`,
		Flags: taken.flags(),
		Action: func(ctx *cli.Context) error {
			if err := errors.Join(c.all.refuse(taken), taken.resolve()); err != nil {
				return err
			}
			return replayFiles(ctx.Context, c, only, ctx.Args().Slice())
		},
	}
}

// replayFiles counts capture files into one table and prints the counts, even if a file is damaged or the context ends.
func replayFiles(ctx context.Context, c *config, only string, files []string) error {
	if len(files) == 0 {
		return errors.New("replay: no capture file given; name some, or - for standard input")
	}
	if err := checkFiles(files); err != nil {
		return err
	}
	in, auto, err := c.lists().Read()
	if err == nil && auto != nil {
		err = fmt.Errorf("%s %q: a capture file has no interfaces for auto: name the subnets", c.givenBy("monitor-subnets"), c.monitored)
	}
	if err != nil {
		return err
	}
	log := c.logger(os.Stderr)
	c.explainLabels(in.Monitored, log)
	debug.SetGCPercent(400) // faster: a replay is short, and little of its memory is garbage
	table := c.table(0).Monitor(in)
	counted, sawPackets := []telemetry.Interface{}, false
	var errs []error
	for _, name := range files {
		if ctx.Err() != nil {
			errs = append(errs, fmt.Errorf("interrupted before %s", name))
			break
		}
		file, name, err := openFile(ctx, name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		counter := capture.NewCounter(table)
		counter.SeenOn(name)
		interfaces, err := countFile(ctx, file, name, counter, only)
		errs = append(errs, err)
		if interfaces.Several() && only == "" {
			advice := "--replay-interface=NAME|INDEX counts one"
			if len(interfaces.All) < 2 {
				advice = "capture one interface, or tell them apart with tcpdump -i any -y LINUX_SLL2"
			}
			log.Warn("a forwarded packet counts once for each interface that it passed in this capture: "+advice, "file", name, "interfaces", interfaces)
		}
		outcomes := counter.Outcomes()
		counted = append(counted, telemetry.Interface{Name: name, Outcomes: live.Outcomes(outcomes)})
		sawPackets = sawPackets || outcomes != [frame.Outcomes]capture.OutcomeSize{}
	}
	if err := errors.Join(errs...); err != nil && !sawPackets {
		return err
	}
	monitor := live.Monitor{Table: table, Interfaces: func() []telemetry.Interface { return counted }}
	if err := telemetry.WriteText(os.Stdout, monitor.Read(), c.packets); err != nil {
		errs = append(errs, fmt.Errorf("printing the counts: %w", err))
	}
	return errors.Join(errs...)
}

// checkFiles returns an error if a file cannot be counted, before the files in front of it are.
func checkFiles(files []string) error {
	for _, name := range files {
		if name == "-" {
			continue
		}
		info, err := os.Stat(name)
		switch {
		case err != nil && strings.HasPrefix(name, "-"):
			return fmt.Errorf("replay: %w; flags come before files", err)
		case err != nil:
			return fmt.Errorf("replay: %w", err)
		case info.IsDir():
			return fmt.Errorf("replay: %s is a directory", name)
		}
	}
	return nil
}

// openFile opens a file, or standard input if its name is -. It returns the name for metrics and messages.
func openFile(ctx context.Context, name string) (*os.File, string, error) {
	if name != "-" {
		type opened struct {
			file *os.File
			err  error
		}
		done := make(chan opened, 1)
		go func() { // opening a FIFO waits for somebody who writes
			file, err := os.Open(name)
			done <- opened{file, err}
		}()
		select {
		case o := <-done:
			return o.file, name, o.err
		case <-ctx.Done():
			return nil, "", fmt.Errorf("%s: interrupted before anybody wrote to it", name)
		}
	}
	if term.IsTerminal(int(os.Stdin.Fd())) {
		return nil, "", errors.New("replay: standard input is a terminal; pipe a capture into it, as in tcpdump -w - | promflow replay -")
	}
	return os.Stdin, "standard input", nil
}

// pipeGrace is how long the writer of a pipe has to end after an interrupt.
const pipeGrace = 2 * time.Second

// countFile counts a file, shows its progress on a terminal, and closes it unless it is standard input.
//
// It counts to the end of a pipe, even after an interrupt: the terminal interrupts the program that writes the pipe, too, and that may still
// write packets. If it does not end in time, countFile returns while the read goes on.
func countFile(ctx context.Context, file *os.File, name string, counter *capture.Counter, only string) (interfaces replay.Interfaces, err error) {
	if file != os.Stdin {
		defer file.Close()
	}
	begin, size, interrupted := time.Now(), int64(0), ctx.Done()
	if info, err := file.Stat(); err == nil && info.Mode().IsRegular() {
		size, interrupted = info.Size(), nil // replay.Count ends by itself
	} else {
		ctx = context.WithoutCancel(ctx)
	}
	ended := make(chan error, 1)
	var found replay.Interfaces
	go func() {
		var err error
		found, err = replay.Count(ctx, file, name, counter, only)
		ended <- err
	}()
	var tick, grace <-chan time.Time
	if term.IsTerminal(int(os.Stderr.Fd())) {
		tick = time.Tick(progressEvery)
	}
	shown := false
	defer func() {
		if shown {
			fmt.Fprint(os.Stderr, eraseLine)
		}
	}()
	for {
		select {
		case err := <-ended:
			return found, err
		case <-tick:
			var packets int64
			for _, o := range counter.Outcomes() {
				packets += o.Packets
			}
			read, _ := file.Seek(0, io.SeekCurrent) // a pipe has no position, and no size either
			showLine(os.Stderr, progress(name, packets, read, size, time.Since(begin)))
			shown = true
		case <-interrupted:
			interrupted, grace = nil, time.After(pipeGrace)
		case <-grace:
			return interfaces, fmt.Errorf("%s: interrupted, but the program that writes it does not end", name)
		}
	}
}

// progressEvery is the time between two updates of a replay's progress. A replay that takes less shows none.
const progressEvery = 500 * time.Millisecond

// eraseLine is a carriage return and "erase in line" (ECMA-48).
const eraseLine = "\r\x1b[K"

// showLine writes a line over the last one on a terminal.
func showLine(w *os.File, line string) {
	if width, _, err := term.GetSize(int(w.Fd())); err == nil && width > 0 {
		line = line[:min(len(line), width-1)] // a line that wraps would not be erased
	}
	fmt.Fprint(w, eraseLine, line)
}

// progress describes how much of a file of size bytes, 0 if unknown, has been read.
func progress(name string, packets, read, size int64, took time.Duration) string {
	rate := float64(packets) / took.Seconds()
	if size == 0 || read == 0 {
		return fmt.Sprintf("%s: %d packets, %.0f packets/s", name, packets, rate)
	}
	share := min(float64(read)/float64(size), 1)
	left := time.Duration(float64(took) * (1 - share) / share).Round(time.Second)
	return fmt.Sprintf("%s: %.0f %%, %d packets, %.0f packets/s, %v left", name, 100*share, packets, rate, left)
}
