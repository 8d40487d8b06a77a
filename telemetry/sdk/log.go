package sdk

import (
	"context"
	"errors"
	"log/slog"
	"strings"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
)

// RouteLogs sends the messages of the OpenTelemetry SDK and the errors of its background work to log instead of standard error, except
// for a [LoggedError].
func RouteLogs(log *slog.Logger) {
	otel.SetLogger(logr.FromSlogHandler(sdkHandler{log.Handler()}))
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		switch logged := (*LoggedError)(nil); {
		case errors.As(err, &logged):
		case errors.Is(err, context.Canceled): // the shutdown pushes again
		case errors.Is(err, resource.ErrPartialResource): // logged where the resource is made
		case errors.Is(err, sdkmetric.ErrReaderNotRegistered): // a first interval that ends before the program has started
		default:
			log.Error("OpenTelemetry", "err", err)
		}
	}))
}

// Quietly calls do without messages of the SDK. Its exporters read variables that promflow reads by stricter rules: their messages would
// be wrong, and may show the secret of a header.
func Quietly(log *slog.Logger, do func()) {
	otel.SetLogger(logr.Discard())
	do()
	RouteLogs(log)
}

// sdkHandler corrects the level of the SDK's warnings. They have logr's V(1), which is level -1 of slog and below info.
type sdkHandler struct{ slog.Handler }

func sdkLevel(l slog.Level) slog.Level {
	if l == -1 {
		return slog.LevelWarn
	}
	return l
}

func (h sdkHandler) Enabled(ctx context.Context, l slog.Level) bool {
	return h.Handler.Enabled(ctx, sdkLevel(l))
}

func (h sdkHandler) Handle(ctx context.Context, r slog.Record) error {
	r.Level = sdkLevel(r.Level)
	return h.Handler.Handle(ctx, r)
}

// LoggedError is an error that an exporter has already logged.
type LoggedError struct{ Err error }

// maxError bounds the text of an error in bytes: an HTTP proxy may answer with a whole page.
const maxError = 500

func (e *LoggedError) Error() string {
	s := e.Err.Error()
	if len(s) > maxError {
		s = strings.ToValidUTF8(s[:maxError], "") + "..."
	}
	return s
}

func (e *LoggedError) Unwrap() error { return e.Err }
