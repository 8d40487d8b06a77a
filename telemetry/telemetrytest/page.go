package telemetrytest

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"promflow/telemetry"
	"promflow/telemetry/page"
)

// Main runs the tests of a package without OpenTelemetry's environment variables, and fails if they leave goroutines.
func Main(m *testing.M) {
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "OTEL_") {
			os.Unsetenv(name)
		}
	}
	goleak.VerifyTestMain(m)
}

// Start returns a page of the readings that read returns, and shuts it down at the end of the test.
func Start(tb testing.TB, read func() telemetry.Reading, packets bool) *page.Page {
	tb.Helper()
	log := slog.New(slog.NewTextHandler(tb.Output(), nil))
	page, err := page.New(telemetry.NewSource(read, packets), log)
	if err != nil {
		tb.Fatal(err)
	}
	provider := telemetry.New("", log, page)
	tb.Cleanup(func() {
		if err := provider.Shutdown(context.Background()); err != nil {
			tb.Error(err)
		}
	})
	return page
}

// Scrape returns the whole page.
func Scrape(tb testing.TB, page http.Handler) string {
	tb.Helper()
	w := httptest.NewRecorder()
	page.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		tb.Fatalf("status %d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

// Ours returns the lines of a page that come from a Source.
func Ours(page string) string {
	var b strings.Builder
	for line := range strings.Lines(page) {
		name := strings.TrimPrefix(strings.TrimPrefix(line, "# HELP "), "# TYPE ")
		if strings.HasPrefix(name, "promflow_") && !strings.HasPrefix(name, "promflow_build_info") {
			b.WriteString(line)
		}
	}
	return b.String()
}
