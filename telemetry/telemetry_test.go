package telemetry_test

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"promflow/telemetry"
	"promflow/telemetry/golden"
	"promflow/telemetry/page"
	"promflow/telemetry/telemetrytest"
)

func TestMain(m *testing.M) {
	if servedByChild() {
		return
	}
	telemetrytest.Main(m)
}

func TestPage(t *testing.T) {
	for file, c := range map[string]struct {
		reading func() telemetry.Reading
		packets bool
	}{"metrics.golden": {telemetrytest.Example, false}, "metrics-packets.golden": {telemetrytest.Example, true}, "metrics-labels.golden": {telemetrytest.Labelled, false}, "metrics-names.golden": {telemetrytest.Named, false}} {
		t.Run(file, func(t *testing.T) {
			page := telemetrytest.Start(t, c.reading, c.packets)
			whole := telemetrytest.Scrape(t, page)
			got := telemetrytest.Ours(whole)
			golden.Compare(t, file, got)
			for _, line := range []string{
				"\npromflow_receive_bytes_total{ip=\"192.168.1.133\"} 194179\n",
				"\npromflow_transmit_bytes_total{ip=\"192.168.1.133\"} 181358\n",
				"\npromflow_build_info{", "\ngo_goroutines ",
			} {
				if file == "metrics-labels.golden" && strings.Contains(line, "{ip=") {
					continue // the contract's lines have no other label
				}
				if !strings.Contains(whole, line) {
					t.Errorf("page lacks %q", line)
				}
			}
			if problems, err := promlint.New(strings.NewReader(got)).Lint(); err != nil || len(problems) > 0 {
				t.Error("promlint:", problems, err)
			}
			var b bytes.Buffer
			if err := telemetry.WriteText(&b, c.reading(), c.packets); err != nil || b.String() != got {
				t.Errorf("text is\n%s\nerr %v, want\n%s", &b, err, got)
			}
		})
	}
}

func TestEmptyReading(t *testing.T) {
	page := telemetrytest.Start(t, func() telemetry.Reading { return telemetrytest.Hosts(0) }, false)
	var b bytes.Buffer
	if err := telemetry.WriteText(&b, telemetrytest.Hosts(0), true); err != nil {
		t.Fatal(err)
	}
	if got := telemetrytest.Ours(telemetrytest.Scrape(t, page)); got != b.String() || strings.Contains(got, "{") {
		t.Errorf("page %q, text %q; want the table's size only", got, &b)
	}
}

// The SDK's own limit is 2000.
func TestManyAddresses(t *testing.T) {
	page := telemetrytest.Start(t, func() telemetry.Reading { return telemetrytest.Hosts(5000) }, false)
	got := telemetrytest.Ours(telemetrytest.Scrape(t, page))
	if n := strings.Count(got, "\npromflow_receive_bytes_total{ip=\"10.1."); n != 5000 {
		t.Errorf("%d addresses on the page", n)
	}
	var b bytes.Buffer
	if err := telemetry.WriteText(&b, telemetrytest.Hosts(5000), false); err != nil || b.String() != got {
		t.Errorf("text differs from the page, err %v", err)
	}
}

func TestAddressesVanish(t *testing.T) {
	s := &telemetrytest.State{}
	s.Set(telemetrytest.Example())
	page := telemetrytest.Start(t, s.Read, false)
	telemetrytest.Scrape(t, page)
	first := slices.Collect(telemetrytest.Example().Hosts)
	s.Set(telemetry.Reading{Hosts: slices.Values(first[1:2])})
	got := telemetrytest.Ours(telemetrytest.Scrape(t, page))
	if n := strings.Count(got, "{ip="); n != 1 || !strings.Contains(got, "receive_bytes_total{ip=\"192.168.1.2\"} 60\n") {
		t.Errorf("page is\n%s", got)
	}
	s.Set(telemetrytest.Example())
	want, err := os.ReadFile("testdata/metrics.golden")
	if err != nil {
		t.Fatal(err)
	}
	if got := telemetrytest.Ours(telemetrytest.Scrape(t, page)); got != string(want) {
		t.Errorf("page after the return is\n%s", got)
	}
}

// As when a capture file is given twice.
func TestSameLabelsTwice(t *testing.T) {
	i := telemetry.Interface{Name: "a.pcap", Backend: "replay", Up: true, Outcomes: []telemetry.Outcome{{"counted", 1, 2}}}
	reading := telemetrytest.Hosts(0)
	reading.Interfaces = []telemetry.Interface{i, i}
	page := telemetrytest.Start(t, func() telemetry.Reading { return reading }, false)
	var b bytes.Buffer
	if err := telemetry.WriteText(&b, reading, false); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		got := telemetrytest.Ours(telemetrytest.Scrape(t, page))
		if got != b.String() || !strings.Contains(got, "capture_bytes_total{interface=\"a.pcap\",outcome=\"counted\"} 4\n") {
			t.Errorf("page is\n%s\ntext is\n%s", got, &b)
		}
	}
}

func TestConcurrentReaders(t *testing.T) {
	s := &telemetrytest.State{}
	s.Set(telemetrytest.Hosts(300))
	source := telemetry.NewSource(s.Read, true)
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	page, err := page.New(source, log)
	if err != nil {
		t.Fatal(err)
	}
	manual := sdkmetric.NewManualReader(sdkmetric.WithProducer(source))
	provider := telemetry.New("", log, page, manual)
	defer provider.Shutdown(context.Background())
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 20 {
				switch {
				case i == 0:
					s.Set(telemetrytest.Hosts(200 + n*10)) // addresses come and go meanwhile
				case i%2 == 0:
					if err := manual.Collect(t.Context(), &metricdata.ResourceMetrics{}); err != nil {
						t.Error(err)
					}
				default:
					got := telemetrytest.Ours(telemetrytest.Scrape(t, page))
					if !strings.Contains(got, "receive_bytes_total{ip=\"10.1.0.1\"} 2.469134e+06\n") {
						t.Errorf("page is\n%s", got)
					}
				}
			}
		})
	}
	wg.Wait()
}

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, os.ErrClosed }

func TestWriteTextError(t *testing.T) {
	if err := telemetry.WriteText(failingWriter{}, telemetrytest.Example(), false); err != os.ErrClosed {
		t.Errorf("got %v", err)
	}
}

// What the environment says of the resource is read by the SDK, too, more than once.
func TestUnreadableResourceIsLoggedOnce(t *testing.T) {
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "site")
	var log bytes.Buffer
	telemetry.New("", slog.New(slog.NewTextHandler(&log, nil)))
	if n := strings.Count(log.String(), "site"); n != 1 {
		t.Errorf("logged %d times:\n%s", n, &log)
	}
}
