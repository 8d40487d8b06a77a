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

	"golang.org/x/term"

	"promflow/app/live"
	"promflow/capture"
	"promflow/capture/replay"
	"promflow/telemetry"
)

// replayFiles counts capture files into one table and prints it. What was counted is printed whatever went wrong with a file.
func replayFiles(ctx context.Context, c *config, files []string) error {
	if len(files) == 0 {
		return errors.New("replay: no capture file given; name some, or - for standard input")
	}
	if err := checkFiles(files); err != nil {
		return err
	}
	c.explainLabels(c.logger(os.Stderr))
	debug.SetGCPercent(400) // a replay is over soon, and its table is nearly all that it keeps
	table := c.table(0)
	counted := []telemetry.Interface{}
	var errs []error
	for _, name := range files {
		if ctx.Err() != nil {
			errs = append(errs, fmt.Errorf("interrupted before %s", name))
			break
		}
		counter := capture.NewCounter(table, c.monitored, c.excluded)
		counter.SeenOn(displayName(name))
		of, err := countFile(ctx, name, counter)
		if of != "" {
			counted = append(counted, telemetry.Interface{Name: of, Outcomes: live.Outcomes(counter.Outcomes())})
		}
		errs = append(errs, err)
	}
	counts := live.NewMonitor(table, func() []telemetry.Interface { return counted }, nil, nil).Read()
	if err := errors.Join(errs...); err != nil && !sawPackets(counts) {
		return err
	}
	if err := telemetry.WriteText(os.Stdout, counts, c.packets); err != nil {
		errs = append(errs, fmt.Errorf("printing the counts: %w", err))
	}
	return errors.Join(errs...)
}

// checkFiles finds a wrong name before the files in front of it are counted.
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

// sawPackets tells whether there was anything to count.
func sawPackets(r telemetry.Reading) bool {
	for _, i := range r.Interfaces {
		for _, o := range i.Outcomes {
			if o.Packets > 0 {
				return true
			}
		}
	}
	return false
}

// displayName is what metrics and messages call a file.
func displayName(file string) string {
	if file == "-" {
		return "standard input"
	}
	return file
}

// countFile counts a file, and gives the name that metrics have for it, empty if it could not be opened.
func countFile(ctx context.Context, name string, counter *capture.Counter) (string, error) {
	f := os.Stdin
	if name == "-" {
		if term.IsTerminal(int(f.Fd())) {
			return "", errors.New("replay: standard input is a terminal; pipe a capture into it, as in tcpdump -w - | promflow replay -")
		}
		name = displayName(name)
	} else {
		var err error
		if f, err = os.Open(name); err != nil {
			return "", err
		}
		defer f.Close()
	}
	count, size := countPipe, int64(0) // unknown
	if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
		count, size = replay.Count, info.Size()
	}
	in := &meter{Reader: f}
	defer showProgress(os.Stderr, name, in, size, counter)()
	return name, count(ctx, in, name, counter)
}

// pipeGrace is how long the writer of a pipe has to end after an interrupt.
const pipeGrace = 2 * time.Second

// countPipe counts to the end of a pipe, even after an interrupt: a terminal sends that to the program that writes the pipe,
// too, and what it has still to write is wanted. It returns while a read goes on if the writer does.
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
		return fmt.Errorf("%s: interrupted, and its writer goes on", name)
	}
}
