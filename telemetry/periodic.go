package telemetry

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

// newPeriodicReader returns a reader that has x export source.
//
// The SDK's limit of 30 s for an export is for all messages of it. There is none here unless OTEL_METRIC_EXPORT_TIMEOUT says so:
// where messages arrive slowly, the last series would never arrive.
func newPeriodicReader(x sdkmetric.Exporter, source *Source, interval time.Duration, log *slog.Logger) (r sdkmetric.Reader) {
	timeout := cmp.Or(environmentVariable("OTEL_METRIC_EXPORT_TIMEOUT").milliseconds(log), noLimit)
	quietly(log, func() {
		r = sdkmetric.NewPeriodicReader(x,
			sdkmetric.WithInterval(interval), sdkmetric.WithTimeout(timeout), sdkmetric.WithProducer(source))
	})
	return r
}

// defaultInterval gives that of the environment, or else the one given.
func defaultInterval(log *slog.Logger, other time.Duration) time.Duration {
	return cmp.Or(environmentVariable("OTEL_METRIC_EXPORT_INTERVAL").milliseconds(log), other)
}

// variable is one of OpenTelemetry's environment variables; empty ones count as unset.
type variable struct{ name, value string }

// environmentVariable gives the variable of this name, zero if it is unset.
func environmentVariable(name string) variable {
	if value := strings.TrimSpace(os.Getenv(name)); value != "" {
		return variable{name, value}
	}
	return variable{}
}

// milliseconds gives the time that v says, 0 if it is unset or says none.
func (v variable) milliseconds(log *slog.Logger) time.Duration {
	if v.name == "" {
		return 0
	}
	ms, err := strconv.ParseInt(v.value, 10, 64)
	if err != nil || ms <= 0 || ms > math.MaxInt64/int64(time.Millisecond) {
		log.Warn("a variable is ignored: expected a time in milliseconds", "variable", v.name, "value", v.value)
		return 0
	}
	return time.Duration(ms) * time.Millisecond
}
