// Package sdk has what exporters need besides OpenTelemetry's SDK: its environment variables, its periodic reader, its messages.
package sdk

import (
	"cmp"
	"log/slog"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
)

// noLimit is longer than any push.
const noLimit = 24 * time.Hour

// NewPeriodicReader returns a reader that exports the metrics of a producer.
//
// The SDK's default timeout of 30 s is for all messages of an export: over a slow connection the last series would never arrive. Here
// there is none unless OTEL_METRIC_EXPORT_TIMEOUT says so.
func NewPeriodicReader(x sdkmetric.Exporter, source sdkmetric.Producer, interval time.Duration, log *slog.Logger) (r sdkmetric.Reader) {
	timeout := cmp.Or(EnvironmentVariable("OTEL_METRIC_EXPORT_TIMEOUT").Milliseconds(log), noLimit)
	Quietly(log, func() {
		r = sdkmetric.NewPeriodicReader(x,
			sdkmetric.WithInterval(interval), sdkmetric.WithTimeout(timeout), sdkmetric.WithProducer(source))
	})
	return r
}

// DefaultInterval returns the interval of the environment, or else other.
func DefaultInterval(log *slog.Logger, other time.Duration) time.Duration {
	return cmp.Or(EnvironmentVariable("OTEL_METRIC_EXPORT_INTERVAL").Milliseconds(log), other)
}

// Variable is an environment variable of OpenTelemetry. Empty ones count as unset.
type Variable struct{ Name, Value string }

// EnvironmentVariable returns a variable, or zero if it is unset.
func EnvironmentVariable(name string) Variable {
	if value := strings.TrimSpace(os.Getenv(name)); value != "" {
		return Variable{name, value}
	}
	return Variable{}
}

// Milliseconds returns the duration in v, or 0 if it is unset or invalid.
func (v Variable) Milliseconds(log *slog.Logger) time.Duration {
	if v.Name == "" {
		return 0
	}
	ms, err := strconv.ParseInt(v.Value, 10, 64)
	if err != nil || ms <= 0 || ms > math.MaxInt64/int64(time.Millisecond) {
		log.Warn("a variable is ignored: expected a time in milliseconds", "variable", v.Name, "value", v.Value)
		return 0
	}
	return time.Duration(ms) * time.Millisecond
}
