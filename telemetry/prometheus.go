package telemetry

import (
	"fmt"
	"log/slog"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/collectors/version"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/otlptranslator"
	otelprom "go.opentelemetry.io/otel/exporters/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
)

// translation is how OpenTelemetry names become Prometheus names. It is said explicitly wherever it matters, because the
// exporter's default is announced to change.
var translation = otlptranslator.UnderscoreEscapingWithSuffixes

// maxScrapes bounds the pages that are written at the same time, each some 130 bytes per address; one scrape more is answered
// with 503.
const maxScrapes = 16

// Prometheus is the reader behind the metrics page, and the handler that serves it.
type Prometheus struct {
	sdkmetric.Reader
	http.Handler
}

// NewPrometheus returns a reader that serves its metrics, and those of the Go runtime, the process and the build, in the
// Prometheus text format. What goes wrong in a scrape is logged and counted in promhttp_metric_handler_errors_total; the page
// then has what could be collected. Scrapes that overlap share one collection.
//
// A page of 65,536 addresses takes the better part of a second: the server needs a write timeout well above that, or none.
func NewPrometheus(log *slog.Logger) (*Prometheus, error) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		version.NewCollector("promflow"),
	)
	// Without scope and target info the series have the labels of the instruments and no other.
	exporter, err := otelprom.New(
		otelprom.WithRegisterer(registry),
		otelprom.WithTranslationStrategy(translation),
		otelprom.WithoutScopeInfo(),
		otelprom.WithoutTargetInfo(),
	)
	if err != nil {
		return nil, fmt.Errorf("Prometheus exporter: %w", err)
	}
	handler := promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		Registry:            registry,
		ErrorLog:            slog.NewLogLogger(log.Handler(), slog.LevelError),
		ErrorHandling:       promhttp.ContinueOnError,
		CoalesceGather:      true,
		MaxRequestsInFlight: maxScrapes,
	})
	return &Prometheus{Reader: exporter, Handler: handler}, nil
}
