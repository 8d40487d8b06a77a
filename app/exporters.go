package app

import (
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

	// prepare finds what is wrong with the settings, and gives what makes the reader.
	prepare func(*config, *slog.Logger) (newReader, error)
}

// newReader makes a reader of what was counted.
type newReader func(*telemetry.Source) sdkmetric.Reader

// exporters are the telemetry backends, besides the page.
var exporters = []exporter{
	{"otlp", func(c *config, log *slog.Logger) (newReader, error) {
		push, err := otlp.Prepare(c.otlp, log)
		if err != nil {
			return nil, c.otlpError(err)
		}
		return push.Reader, nil
	}},
	{"console", func(_ *config, log *slog.Logger) (newReader, error) {
		return func(s *telemetry.Source) sdkmetric.Reader { return telemetry.NewConsole(s, os.Stdout, log) }, nil
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

// outlets are the exporters that were chosen.
type outlets struct {
	onPage bool // the page has the counts
	others []newReader
}

// prepareExporters chooses exporters, and finds what is wrong with their settings.
func prepareExporters(c *config, log *slog.Logger) (o outlets, err error) {
	chosen, err := chooseExporters(c, log)
	if err != nil {
		return outlets{}, err
	}
	o.onPage = slices.Contains(chosen, onPage)
	for _, e := range exporters {
		if !slices.Contains(chosen, e.name) {
			continue
		}
		reader, err := e.prepare(c, log)
		if err != nil {
			return outlets{}, err
		}
		o.others = append(o.others, reader)
	}
	return o, nil
}

// open makes the readers of a source, and the page, which is one of them if it has the counts.
func (o outlets) open(source *telemetry.Source, log *slog.Logger) (served *page.Page, readers []sdkmetric.Reader, err error) {
	if served, err = page.New(source, log); err != nil {
		return nil, nil, err
	}
	if o.onPage {
		readers = append(readers, served)
	}
	for _, reader := range o.others {
		readers = append(readers, reader(source))
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
