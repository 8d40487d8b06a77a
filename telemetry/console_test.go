package telemetry_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"promflow/telemetry"
	"promflow/telemetry/telemetrytest"
)

// writes has each write as it comes.
type writes chan string

func (w writes) Write(b []byte) (int, error) {
	w <- string(b)
	return len(b), nil
}

func TestConsole(t *testing.T) {
	var want bytes.Buffer
	if err := telemetry.WriteText(&want, telemetrytest.Example(), true); err != nil {
		t.Fatal(err)
	}
	for variable, interval := range map[string]time.Duration{"": 10 * time.Second, "250": 250 * time.Millisecond} {
		t.Run("every "+interval.String(), func(t *testing.T) {
			if variable != "" {
				t.Setenv("OTEL_METRIC_EXPORT_INTERVAL", variable)
			}
			synctest.Test(t, func(t *testing.T) {
				written := make(writes, 1)
				console := telemetry.NewConsole(telemetry.NewSource(telemetrytest.Example, true), written, slog.New(slog.DiscardHandler))
				provider := telemetry.New("", slog.New(slog.DiscardHandler), console)
				last := time.Now()
				expect := func(after time.Duration) {
					t.Helper()
					comment, page, _ := strings.Cut(<-written, "\n")
					at, err := time.Parse("# "+time.RFC3339, comment)
					if err != nil || at.Unix() != time.Now().Unix() {
						t.Errorf("comment is %q: %v", comment, err)
					}
					if page != want.String()+"\n" {
						t.Errorf("text is\n%s\nwant\n%s", page, &want)
					}
					if took := time.Since(last); took != after {
						t.Errorf("came after %v, want %v", took, after)
					}
					last = time.Now()
				}
				expect(interval)
				expect(interval)
				if err := provider.Shutdown(context.Background()); err != nil {
					t.Error(err)
				}
				expect(0) // at the end
			})
		})
	}
}

func TestConsoleSaysThatItCannotWrite(t *testing.T) {
	logged := &telemetrytest.Lines{}
	log := slog.New(slog.NewTextHandler(logged, nil))
	provider := telemetry.New("", log, telemetry.NewConsole(telemetry.NewSource(telemetrytest.Example, false), failingWriter{}, log))
	provider.ForceFlush(t.Context())
	if err := provider.Shutdown(context.Background()); err == nil || !strings.Contains(err.Error(), "console: ") {
		t.Error("got", err)
	}
	if n := strings.Count(logged.String(), "\n"); n != 1 {
		t.Errorf("want one line; log:\n%s", logged)
	}
}
