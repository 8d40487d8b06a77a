package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"promflow/app/check"
	"promflow/app/live"
	"promflow/capture"
	"promflow/telemetry/otlp"
)

// checkSettings returns the flags that only check has, and sets their values to the defaults.
func checkSettings(length *time.Duration, output *string) settings {
	return settings{
		{category: "Check", name: "duration", holder: "TIME", byDefault: "5s", parse: duration(length, 1),
			usage: "how long to count"},
		{category: "Check", name: "output", holder: "FORMAT", byDefault: "text", text: output, choices: []string{"text", "json"},
			usage: "text, or json for scripts, to standard output"},
	}.withDefaults()
}

// checkCommand is promflow check.
func checkCommand(c *config) *cli.Command {
	length, output := new(time.Duration), new(string)
	all := slices.Concat(c.all, checkSettings(length, output))
	return &cli.Command{
		Name:      "check",
		Usage:     "say whether promflow would work here, and what share of the traffic it sees",
		UsageText: "promflow check [flags]",
		Description: `Takes the flags of the program, captures for some seconds, and compares what was counted with the kernel's own counters.
The status is 1 if something does not work, or less than 99 % of the packets are seen.`,
		Flags: all.flags(),
		Action: func(ctx *cli.Context) error {
			if err := errors.Join(tooMany(ctx, 0, "flags only"), all.resolve()); err != nil {
				return err
			}
			report, err := c.check(ctx.Context, *length)
			if err != nil {
				return fmt.Errorf("check: %w", err)
			}
			write := report.WriteText
			if *output == "json" {
				write = report.WriteJSON
			}
			if err := write(os.Stdout); err != nil {
				return fmt.Errorf("check: printing the report: %w", err)
			}
			if wrong := report.Named(check.Error); len(wrong) > 0 {
				return errors.New("check: does not work: " + strings.Join(wrong, ", "))
			}
			return nil
		},
	}
}

// check captures for a while, and reports what works here and what does not.
func (c *config) check(ctx context.Context, duration time.Duration) (*check.Report, error) {
	var log check.Log
	setup := check.Setup{
		Interfaces: slices.Concat(c.interfaces.Real().Exact, c.interfaces.Globs), Promiscuous: c.promiscuous, Mirror: c.mirror,
		Duration: duration, Log: c.logger(os.Stderr), Drop: c.dropPrivileges,
		Table: capture.NewTable(c.maxIPs, c.expireAfter), // the report needs addresses, without labels or prefixes
	}
	if live.CollectsFlows(c.backend) {
		setup.Interfaces = nil
	}
	setup.Open = func(log *slog.Logger) (check.Capture, string, error) {
		if err := c.checkCapture(); err != nil {
			return nil, "", err
		}
		l, err := live.Open(c.live(setup.Table, log))
		if err != nil {
			return nil, "", err
		}
		c.explainLabels(setup.Table.Subnets().Monitored, log)
		c.explainFlows(log)
		c.explainMirror(log)
		return l, l.Backend, nil
	}
	chosen, err := chooseExporters(c, log.Logger())
	wrong := []error{err}
	if slices.Contains(chosen, "otlp") {
		setup.Push = func(ctx context.Context) (string, error) {
			endpoint, err := otlp.Probe(ctx, c.otlp, log.Logger())
			return endpoint, c.otlpError(err)
		}
	}
	server := c.web()
	for _, a := range c.addresses {
		network, local := a.Local()
		setup.Addresses = append(setup.Addresses, check.Address{Text: a.String(), Network: network, Local: local, Refused: server.Try(a)})
	}
	wrong = append(wrong, server.Check())
	settings := check.Finding{Name: "settings", Summary: "no setting contradicts another"}
	for _, err := range wrong {
		if err != nil {
			settings.Status = check.Error
			settings.Details = append(settings.Details, oneLine(err))
		}
	}
	if warnings := log.Take(); len(warnings) > 0 {
		settings.Status = max(settings.Status, check.Warning)
		settings.Details = append(settings.Details, warnings...)
	}
	if settings.Status != check.OK {
		settings.Summary = "some settings are wrong or have no effect"
	}
	setup.Others = []check.Finding{settings}
	return check.Run(ctx, setup)
}
