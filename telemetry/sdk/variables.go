// Package sdk has what exporters need around OpenTelemetry's SDK: its environment variables, its periodic reader, its messages.
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

// NewPeriodicReader returns a reader that has x export what a producer has.
//
// The SDK's limit of 30 s for an export is for all messages of it. There is none here unless OTEL_METRIC_EXPORT_TIMEOUT says so:
// where messages arrive slowly, the last series would never arrive.
func NewPeriodicReader(x sdkmetric.Exporter, of sdkmetric.Producer, interval time.Duration, log *slog.Logger) (r sdkmetric.Reader) {
	timeout := cmp.Or(EnvironmentVariable("OTEL_METRIC_EXPORT_TIMEOUT").Milliseconds(log), noLimit)
	Quietly(log, func() {
		r = sdkmetric.NewPeriodicReader(x,
			sdkmetric.WithInterval(interval), sdkmetric.WithTimeout(timeout), sdkmetric.WithProducer(of))
	})
	return r
}

// DefaultInterval gives that of the environment, or else the one given.
func DefaultInterval(log *slog.Logger, other time.Duration) time.Duration {
	return cmp.Or(EnvironmentVariable("OTEL_METRIC_EXPORT_INTERVAL").Milliseconds(log), other)
}

// Variable is one of OpenTelemetry's environment variables; empty ones count as unset.
type Variable struct{ Name, Value string }

// EnvironmentVariable gives the variable of this name, zero if it is unset.
func EnvironmentVariable(name string) Variable {
	if value := strings.TrimSpace(os.Getenv(name)); value != "" {
		return Variable{name, value}
	}
	return Variable{}
}

// Milliseconds gives the time that v says, 0 if it is unset or says none.
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
