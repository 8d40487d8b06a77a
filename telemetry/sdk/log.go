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

// RouteLogs sends what the OpenTelemetry SDK has to say to log instead of standard error, and the errors of its background
// work too, except for a [LoggedError].
func RouteLogs(log *slog.Logger) {
	otel.SetLogger(logr.FromSlogHandler(sdkHandler{log.Handler()}))
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		switch logged := (*LoggedError)(nil); {
		case errors.As(err, &logged):
		case errors.Is(err, context.Canceled): // a push that the shutdown makes again
		case errors.Is(err, resource.ErrPartialResource): // who makes the resource logs it
		case errors.Is(err, sdkmetric.ErrReaderNotRegistered): // its interval is shorter than the program's start
		default:
			log.Error("OpenTelemetry", "err", err)
		}
	}))
}

// Quietly does what makes the SDK's exporters read variables that promflow reads by other and stricter rules: what they
// would log of them is wrong, and may show a header's secret.
func Quietly(log *slog.Logger, do func()) {
	otel.SetLogger(logr.Discard())
	do()
	RouteLogs(log)
}

// sdkHandler gives the SDK's messages the levels that they are meant to have: its warnings come at logr's V(1), which is
// slog's level -1, and would be lost between info and debug.
type sdkHandler struct {
	slog.Handler
}

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

func (h sdkHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return sdkHandler{h.Handler.WithAttrs(attrs)}
}

func (h sdkHandler) WithGroup(name string) slog.Handler {
	return sdkHandler{h.Handler.WithGroup(name)}
}

// LoggedError is an error that an exporter has logged, and that nobody else has to.
type LoggedError struct{ Err error }

// maxError is how much of an error is shown: an HTTP proxy may answer with a whole page.
const maxError = 500

func (e *LoggedError) Error() string {
	s := e.Err.Error()
	if len(s) > maxError {
		s = strings.ToValidUTF8(s[:maxError], "") + "..."
	}
	return s
}

func (e *LoggedError) Unwrap() error { return e.Err }
