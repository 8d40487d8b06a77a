package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"promflow/app/check"
	"promflow/app/live"
	"promflow/app/web"
	"promflow/capture"
	"promflow/telemetry/otlp"
)

// checking is what flags and variables say of a check, beside what they say of the program.
type checking struct {
	duration time.Duration
	output   string
}

// settings lists what can be set of k, which gets the defaults.
func (k *checking) settings() settings {
	return settings{
		{category: "Check", name: "duration", holder: "TIME", byDefault: "5s", parse: duration(&k.duration),
			usage: "how long to count"},
		{category: "Check", name: "output", holder: "FORMAT", byDefault: "text", chosen: &k.output, choices: []string{"text", "json"},
			usage: "text, or json for scripts, to standard output"},
	}.withDefaults()
}

// checkHere writes what would work here of what c asks for. What does not is an error, too.
func checkHere(ctx context.Context, c *config, k *checking, w io.Writer) error {
	var log check.Log
	setup := check.Setup{
		Interfaces: slices.Concat(c.interfaces.Exact, c.interfaces.Globs), Monitored: c.monitored, Excluded: c.excluded, Promiscuous: c.promiscuous, Duration: k.duration,
		Log: c.logger(os.Stderr), Open: c.openForCheck,
	}
	settings := check.Finding{Name: "settings", Summary: "nothing contradicts"}
	wrong := func(err error) {
		settings.Status = check.Error
		settings.Details = append(settings.Details, oneLine(err))
	}
	chosen, err := chooseExporters(c, log.Logger())
	if err != nil {
		wrong(err)
	}
	if slices.Contains(chosen, "otlp") {
		setup.Push = func(ctx context.Context) (string, error) {
			endpoint, err := otlp.Probe(ctx, c.otlp, log.Logger())
			return endpoint, c.otlpError(err)
		}
	}
	if of := c.web(); of.Address != web.None {
		setup.MetricsAddress = of.Address
		if l, err := of.Bind(); err != nil {
			setup.Refused = err
		} else {
			l.Close()
		}
		if err := of.Check(); err != nil {
			wrong(err)
		}
	}
	if warnings := log.Take(); len(warnings) > 0 {
		settings.Status = max(settings.Status, check.Warning)
		settings.Details = append(settings.Details, warnings...)
	}
	if settings.Status != check.OK {
		settings.Summary = "not all is as promflow would have it"
	}
	setup.Others = []check.Finding{settings}

	report, err := check.Run(ctx, setup)
	if err != nil {
		return fmt.Errorf("check: %w", err)
	}
	write := report.WriteText
	if k.output == "json" {
		write = report.WriteJSON
	}
	if err := write(w); err != nil {
		return fmt.Errorf("check: printing the report: %w", err)
	}
	if wrong := report.Named(check.Error); len(wrong) > 0 {
		return errors.New("check: does not work: " + strings.Join(wrong, ", "))
	}
	return nil
}

// openForCheck begins to capture as the program does.
func (c *config) openForCheck(_ context.Context, log *slog.Logger) (*check.Capture, error) {
	table := capture.NewTable(c.maxIPs, c.expireAfter) // each address is looked at
	l, err := live.Open(c.live(table, log))
	if err != nil {
		_ = c.dropPrivileges(nil, log) // what else there is to check, such as the collector, is to be as promflow would find it
		return nil, err
	}
	if err := c.dropPrivileges(l.Keeps(), log); err != nil {
		return nil, errors.Join(&check.DropError{Err: err}, l.Close())
	}
	c.explainLabels(log)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	return &check.Capture{
		Backend: l.Backend(),
		Keeps:   l.Keeps(),
		Table:   table,
		Read: func() map[string]capture.Status {
			l.Read()
			all := map[string]capture.Status{}
			for _, s := range l.Statuses() {
				all[s.Interface] = s.Status
			}
			return all
		},
		Stop:  func() error { cancel(); return <-ended },
		Close: l.Close,
	}, nil
}
