package app

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"syscall"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"

	"promflow/app/web"
	"promflow/telemetry"
	"promflow/telemetry/otlp"
)

// exporter is a way to export metrics besides the page.
type exporter struct {
	name string // as OTEL_METRICS_EXPORTER has it

	// prepare checks the settings, and returns a function that makes the reader.
	prepare func(*config, *slog.Logger) (newReader, error)
}

// newReader makes a reader of a source.
type newReader func(*telemetry.Source) sdkmetric.Reader

var exporters = []exporter{
	{"otlp", func(c *config, log *slog.Logger) (newReader, error) {
		reader, err := otlp.Prepare(c.otlp, log)
		return reader, c.otlpError(err)
	}},
	{"console", func(c *config, log *slog.Logger) (newReader, error) {
		return func(s *telemetry.Source) sdkmetric.Reader { return telemetry.NewConsole(s, output{c.end}, log) }, nil
	}},
}

// output is standard output. Once it is a pipe that nobody reads any more, such as that to head, it ends the program in order.
type output struct{ end func() }

func (o output) Write(b []byte) (int, error) {
	n, err := os.Stdout.Write(b)
	if errors.Is(err, syscall.EPIPE) {
		o.end()
	}
	return n, err
}

const (
	onPage     = "prometheus" // the exporter whose reader is the page; the server has the page even without it
	noExporter = "none"
)

func exporterNames() []string {
	names := []string{onPage}
	for _, e := range exporters {
		names = append(names, e.name)
	}
	return names
}

func parseExporters(s string) ([]string, error) {
	names, unknown := splitExporters(s)
	if len(unknown) > 0 || names == nil {
		return nil, fmt.Errorf("expected a list of %s, or %s", strings.Join(exporterNames(), ", "), noExporter)
	}
	return names, nil
}

// splitExporters parses a list such as OTEL_METRICS_EXPORTER. names is nil if the list has no known name, and empty for "none".
func splitExporters(list string) (names, unknown []string) {
	for _, name := range elements(strings.ToLower(list)) {
		switch {
		case slices.Contains(names, name):
		case name == noExporter && names == nil:
			names = []string{}
		case slices.Contains(exporterNames(), name):
			names = append(names, name)
		case name != noExporter:
			unknown = append(unknown, name)
		}
	}
	return names, unknown
}

// chooseExporters returns the names of the exporters to use. It follows the flags, OTEL_SDK_DISABLED and OTEL_METRICS_EXPORTER
// (https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/).
func chooseExporters(c *config, log *slog.Logger) ([]string, error) {
	switch disabled := strings.ToLower(strings.TrimSpace(os.Getenv("OTEL_SDK_DISABLED"))); disabled {
	case "true":
		log.Warn("no counts are exported: OTEL_SDK_DISABLED is true")
		return nil, nil
	case "", "false":
	default:
		log.Warn("a variable is neither true nor false, and is ignored", "variable", "OTEL_SDK_DISABLED", "value", disabled)
	}
	chosen, from := c.exporters, c.givenBy("exporters")
	if list := os.Getenv("OTEL_METRICS_EXPORTER"); chosen == nil && list != "" {
		names, unknown := splitExporters(list)
		chosen, from = names, "OTEL_METRICS_EXPORTER"
		if len(unknown) > 0 {
			log.Warn("unknown exporters in OTEL_METRICS_EXPORTER are ignored", "unknown", strings.Join(unknown, ", "),
				"known", strings.Join(append(exporterNames(), noExporter), ", "))
		}
	}
	asked := chosen != nil
	if !asked {
		chosen = []string{onPage}
		if c.otlp.Configured() {
			chosen = append(chosen, "otlp")
		}
	}
	has := func(name string) bool { return slices.Contains(chosen, name) }
	switch noPage := len(c.addresses) == 0; {
	case noPage && has(onPage):
		chosen = slices.DeleteFunc(slices.Clone(chosen), func(name string) bool { return name == onPage })
		if len(chosen) == 0 {
			why := "; give an --otlp-endpoint to push to"
			if asked {
				why = ", as " + from + " has only prometheus"
			}
			return nil, fmt.Errorf("%s %s: nobody could see the counts%s", c.givenBy("metrics-address"), web.None, why)
		}
		if asked {
			log.Warn("no page is served: "+c.givenBy("metrics-address")+" is "+web.None, from, "prometheus")
		}
	case !noPage && !has(onPage):
		log.Warn("the page has no counts: " + from + " does not have prometheus")
	}
	if c.otlp.Endpoint != "" && !has("otlp") {
		log.Warn("nothing is pushed to " + c.givenBy("otlp-endpoint") + ": " + from + " does not have otlp")
	}
	if len(chosen) == 0 {
		log.Warn("no counts are exported: " + from + " is " + noExporter)
	}
	return chosen, nil
}

// prepareExporters chooses exporters, and checks their settings. hasPage tells whether the page is one of them.
func prepareExporters(c *config, log *slog.Logger) (hasPage bool, others []newReader, err error) {
	chosen, err := chooseExporters(c, log)
	for _, e := range exporters {
		if !slices.Contains(chosen, e.name) {
			continue
		}
		reader, err := e.prepare(c, log)
		if err != nil {
			return false, nil, err
		}
		others = append(others, reader)
	}
	return slices.Contains(chosen, onPage), others, err
}

// otlpError adds the flag or variable to an error about a setting.
func (c *config) otlpError(err error) error {
	if wrong := (*otlp.SettingError)(nil); errors.As(err, &wrong) {
		return fmt.Errorf("%s: %w", c.givenBy("otlp-"+wrong.Setting), wrong.Err)
	}
	return err
}
