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
	taken := c.all.named("monitor-subnets", "exclude-subnets", "packets", "max-ips",
		"labels", "peer-subnets", "max-series", "aggregate", "aggregate6")
	return &cli.Command{
		Name:      "replay",
		Usage:     "count capture files and print the counts",
		UsageText: "promflow replay [flags] FILE...",
		Description: `Counts pcap and pcapng files, plain or compressed with gzip or zstd; - is standard input:

   tcpdump -i eth0 -w - | promflow replay --monitor-subnets=192.168.1.0/24 -`,
		Flags: taken.flags(),
		Action: func(ctx *cli.Context) error {
			if err := errors.Join(c.all.refuse(taken), taken.resolve()); err != nil {
				return err
			}
			return replayFiles(ctx.Context, c, ctx.Args().Slice())
		},
	}
}

// replayFiles counts capture files into one table and prints the counts, even if a file is damaged or the context ends.
func replayFiles(ctx context.Context, c *config, files []string) error {
	if len(files) == 0 {
		return errors.New("replay: no capture file given; name some, or - for standard input")
	}
	if err := checkFiles(files); err != nil {
		return err
	}
	c.explainLabels(c.logger(os.Stderr))
	debug.SetGCPercent(400) // faster: a replay is short, and little of its memory is garbage
	table := c.table(0)
	counted, sawPackets := []telemetry.Interface{}, false
	var errs []error
	for _, name := range files {
		if ctx.Err() != nil {
			errs = append(errs, fmt.Errorf("interrupted before %s", name))
			break
		}
		file, err := openFile(name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if name == "-" {
			name = "standard input"
		}
		counter := capture.NewCounter(table, c.monitored, c.excluded)
		counter.SeenOn(name)
		errs = append(errs, countFile(ctx, file, name, counter))
		outcomes := counter.Outcomes()
		counted = append(counted, telemetry.Interface{Name: name, Outcomes: live.Outcomes(outcomes)})
		sawPackets = sawPackets || outcomes != [frame.Outcomes]capture.OutcomeSize{}
	}
	if err := errors.Join(errs...); err != nil && !sawPackets {
		return err
	}
	counts := live.NewMonitor(table, func() []telemetry.Interface { return counted }, nil, nil).Read()
	if err := telemetry.WriteText(os.Stdout, counts, c.packets); err != nil {
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

// openFile opens a file, or standard input if its name is -.
func openFile(name string) (*os.File, error) {
	if name != "-" {
		return os.Open(name)
	}
	if term.IsTerminal(int(os.Stdin.Fd())) {
		return nil, errors.New("replay: standard input is a terminal; pipe a capture into it, as in tcpdump -w - | promflow replay -")
	}
	return os.Stdin, nil
}

// countFile counts a file, shows its progress on a terminal, and closes it unless it is standard input.
func countFile(ctx context.Context, file *os.File, name string, counter *capture.Counter) error {
	if file != os.Stdin {
		defer file.Close()
	}
	count, size := countPipe, int64(0) // unknown
	if info, err := file.Stat(); err == nil && info.Mode().IsRegular() {
		count, size = replay.Count, info.Size()
	}
	defer showProgress(os.Stderr, name, file, size, counter)()
	return count(ctx, file, name, counter)
}

// pipeGrace is how long the writer of a pipe has to end after an interrupt.
const pipeGrace = 2 * time.Second

// countPipe counts to the end of a pipe, even after an interrupt: the terminal interrupts the program that writes the pipe, too, and that
// may still write packets. If it does not end in time, countPipe returns while the read goes on.
func countPipe(ctx context.Context, in io.Reader, name string, counter *capture.Counter) error {
	ended := make(chan error, 1)
	go func() { ended <- replay.Count(context.WithoutCancel(ctx), in, name, counter) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-ended:
		return err
	case <-time.After(pipeGrace):
		return fmt.Errorf("%s: interrupted, but the program that writes it does not end", name)
	}
}
