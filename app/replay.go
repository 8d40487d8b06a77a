package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/term"

	"promflow/capture"
	"promflow/capture/replay"
	"promflow/telemetry"
)

// replayFiles counts capture files into one table and prints it. What was counted is printed whatever went wrong with a file.
func replayFiles(ctx context.Context, c *config, files []string) error {
	if len(files) == 0 {
		return errors.New("replay: no capture file given; name some, or - for standard input")
	}
	m := &monitor{table: capture.NewTable(c.maxIPs)}
	var errs []error
	for _, name := range files {
		errs = append(errs, countFile(ctx, name, m, c))
		if ctx.Err() != nil {
			break
		}
	}
	if err := telemetry.WriteText(os.Stdout, m.read(), c.packets); err != nil {
		errs = append(errs, fmt.Errorf("printing the counts: %w", err))
	}
	return errors.Join(errs...)
}

func countFile(ctx context.Context, name string, m *monitor, c *config) error {
	var (
		in   = &meter{Reader: os.Stdin}
		size int64 // 0 if unknown
	)
	if name == "-" {
		if term.IsTerminal(int(os.Stdin.Fd())) {
			return errors.New("replay: standard input is a terminal; pipe a capture into it, as in tcpdump -w - | promflow replay -")
		}
		name = "standard input"
	} else {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			size = info.Size()
		}
		in.Reader = f
	}
	counter := capture.NewCounter(m.table, c.monitored, c.excluded)
	m.add(func() capture.Status { return capture.Status{Interface: name, Outcomes: counter.Outcomes()} })
	defer showProgress(os.Stderr, name, in, size, counter)()
	if in.Reader == os.Stdin {
		return countPipe(ctx, in, name, counter)
	}
	return replay.Count(ctx, in, name, counter)
}

// pipeGrace is how long the writer of standard input has to end after an interrupt.
const pipeGrace = 2 * time.Second

// countPipe counts to the end of a pipe, even after an interrupt: a terminal sends that to the program that writes the pipe,
// too, and what it has still to write is wanted.
func countPipe(ctx context.Context, in *meter, name string, counter *capture.Counter) error {
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
