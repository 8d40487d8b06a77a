package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"

	"promflow/app/web"
	"promflow/telemetry"
	"promflow/telemetry/otlp"
	"promflow/telemetry/page"
)

// exporter is a telemetry backend.
type exporter struct {
	name string // as OTEL_METRICS_EXPORTER has it
	open func(*config, *telemetry.Source, *slog.Logger) (sdkmetric.Reader, error)
}

// exporters are the telemetry backends, besides the page.
var exporters = []exporter{
	{"otlp", func(c *config, source *telemetry.Source, log *slog.Logger) (sdkmetric.Reader, error) {
		reader, err := otlp.New(c.otlp, source, log)
		return reader, c.otlpError(err)
	}},
	{"console", func(_ *config, source *telemetry.Source, log *slog.Logger) (sdkmetric.Reader, error) {
		return telemetry.NewConsole(source, os.Stdout, log), nil
	}},
}

// onPage is the exporter whose reader is the page that the server has in any case.
const onPage = "prometheus"

// noExporter stands for none of them.
const noExporter = "none"

func exporterNames() []string {
	names := []string{onPage}
	for _, e := range exporters {
		names = append(names, e.name)
	}
	return names
}

// exporterList parses a list of exporters.
func exporterList(dst *[]string) func(string) error {
	return func(s string) error {
		names, unknown := splitExporters(s)
		if len(unknown) > 0 || names == nil {
			return fmt.Errorf("expected a list of %s, or %s", strings.Join(exporterNames(), ", "), noExporter)
		}
		*dst = names
		return nil
	}
}

// splitExporters reads a list as OTEL_METRICS_EXPORTER has it. Names are nil if there was none that is known, and empty for "none".
func splitExporters(list string) (names, unknown []string) {
	for name := range strings.SplitSeq(list, ",") {
		switch name = strings.ToLower(strings.TrimSpace(name)); {
		case name == noExporter && names == nil:
			names = []string{}
		case slices.Contains(exporterNames(), name):
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		case name != "" && name != noExporter:
			unknown = append(unknown, name)
		}
	}
	return names, unknown
}

// chooseExporters gives the exporters to open, by flags and by what the OpenTelemetry specification has for
// OTEL_SDK_DISABLED and OTEL_METRICS_EXPORTER
// (https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/).
func chooseExporters(c *config, log *slog.Logger) ([]string, error) {
	switch disabled := strings.ToLower(strings.TrimSpace(os.Getenv("OTEL_SDK_DISABLED"))); disabled {
	case "true":
		log.Warn("no counts are exported: OTEL_SDK_DISABLED is true")
		return nil, nil
	case "", "false":
	default:
		log.Warn("a variable is ignored: expected true or false", "variable", "OTEL_SDK_DISABLED", "value", disabled)
	}
	chosen, from := c.exporters, c.givenBy("exporters")
	if list := os.Getenv("OTEL_METRICS_EXPORTER"); chosen == nil && list != "" {
		var unknown []string
		from = "OTEL_METRICS_EXPORTER"
		chosen, unknown = splitExporters(list)
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
	switch {
	case c.metricsAddress == web.None && has(onPage):
		chosen = slices.DeleteFunc(slices.Clone(chosen), func(name string) bool { return name == onPage })
		switch {
		case len(chosen) == 0 && asked:
			return nil, fmt.Errorf("%s %s: nobody could see the counts, as %s has only prometheus", c.givenBy("metrics-address"), web.None, from)
		case len(chosen) == 0:
			return nil, fmt.Errorf("%s %s: nobody could see the counts; give an --otlp-endpoint to push to", c.givenBy("metrics-address"), web.None)
		}
		if asked {
			log.Warn("no page is served: "+c.givenBy("metrics-address")+" is "+web.None, from, "prometheus")
		}
	case !has(onPage) && c.metricsAddress != web.None:
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

// openReaders opens the exporters that were chosen, and the page, which has no counts unless it is one of them.
func openReaders(chosen []string, c *config, source *telemetry.Source, log *slog.Logger) (served *page.Page, readers []sdkmetric.Reader, err error) {
	if served, err = page.New(source, log); err != nil {
		return nil, nil, err
	}
	if slices.Contains(chosen, onPage) {
		readers = append(readers, served)
	}
	for _, e := range exporters {
		if !slices.Contains(chosen, e.name) {
			continue
		}
		reader, err := e.open(c, source, log)
		if err != nil {
			for _, r := range readers { // which are part of no provider yet, and so have nothing to push
				err = errors.Join(err, r.Shutdown(context.Background()))
			}
			return nil, nil, err
		}
		readers = append(readers, reader)
	}
	return served, readers, nil
}

// otlpError names the flag or the variable of a setting that is wrong.
func (c *config) otlpError(err error) error {
	if wrong := (*otlp.SettingError)(nil); errors.As(err, &wrong) {
		return fmt.Errorf("%s: %w", c.givenBy("otlp-"+wrong.Setting), wrong.Err)
	}
	return err
}
