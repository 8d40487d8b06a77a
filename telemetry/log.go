package telemetry

import (
	"context"
	"errors"
	"log/slog"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel"
)

// routeSDKLogs sends what the OpenTelemetry SDK has to say to log instead of standard error, and the errors of its background
// work too, except for failed exports, which [exporter] logs.
func routeSDKLogs(log *slog.Logger) {
	otel.SetLogger(logr.FromSlogHandler(sdkHandler{log.Handler()}))
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		// A push that a shutdown cancels is made again by the shutdown itself.
		if logged := (*exportError)(nil); !errors.As(err, &logged) && !errors.Is(err, context.Canceled) {
			log.Error("OpenTelemetry", "err", err)
		}
	}))
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

// Handle drops what the OTLP exporter says about environment variables that [NewOTLP] reads by other and stricter rules: the
// message would be wrong, and would show a header's secret.
func (h sdkHandler) Handle(ctx context.Context, r slog.Record) error {
	switch r.Message {
	case "parse url", "parse headers", "escape header value":
		return nil
	}
	r.Level = sdkLevel(r.Level)
	return h.Handler.Handle(ctx, r)
}

func (h sdkHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return sdkHandler{h.Handler.WithAttrs(attrs)}
}

func (h sdkHandler) WithGroup(name string) slog.Handler {
	return sdkHandler{h.Handler.WithGroup(name)}
}
