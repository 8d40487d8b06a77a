package telemetry_test

import (
	"bytes"
	"context"
	"iter"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.uber.org/goleak"

	"promflow/telemetry"
	"promflow/telemetry/golden"
)

func TestMain(m *testing.M) {
	if servedByChild() {
		return
	}
	for _, v := range os.Environ() { // the machine's own collector is not for us
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "OTEL_") {
			os.Unsetenv(name)
		}
	}
	goleak.VerifyTestMain(m)
}

// state is a capture whose reading a test can change.
type state struct {
	mu      sync.Mutex
	reading telemetry.Reading
}

func (s *state) set(r telemetry.Reading) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reading = r
}

func (s *state) read() telemetry.Reading {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reading
}

// hosts returns a reading of n addresses that counted, each with other values, and of "other".
func hosts(n int) telemetry.Reading {
	return telemetry.Reading{Hosts: manyHosts(n), Tracked: int64(n), Limit: 65536}
}

func manyHosts(n int) iter.Seq[telemetry.Host] {
	all := make([]telemetry.Host, n)
	for i := range all {
		v := int64(i + 1)
		all[i] = telemetry.Host{
			Addr:           netip.AddrFrom4([4]byte{10, byte(1 + i>>16), byte(i >> 8), byte(i)}),
			ReceiveBytes:   v * 1_234_567,
			TransmitBytes:  v * 40,
			ReceivePackets: v * 20, TransmitPackets: v,
		}
	}
	return slices.Values(all)
}

// example has everything that a page can show, and the addresses of the contract.
func example() telemetry.Reading {
	return telemetry.Reading{
		Hosts: slices.Values([]telemetry.Host{
			{
				Addr:         netip.MustParseAddr("192.168.1.133"),
				ReceiveBytes: 194179, TransmitBytes: 181358, ReceivePackets: 300, TransmitPackets: 290,
			},
			{Addr: netip.MustParseAddr("192.168.1.2"), ReceiveBytes: 60, ReceivePackets: 1},
			{Addr: netip.MustParseAddr("192.168.1.3"), TransmitBytes: 1_000_000, TransmitPackets: 1000},
			{Addr: netip.MustParseAddr("2001:db8::1"), ReceiveBytes: 1<<53 + 1, TransmitBytes: math.MaxInt64},
			{Addr: netip.MustParseAddr("192.168.1.4")},
			{ReceiveBytes: 1, TransmitBytes: 1234567, ReceivePackets: 1, TransmitPackets: 1},
		}),
		Interfaces: []telemetry.Interface{
			{
				Name: "eth0", Backend: "ebpf", Up: true, Dropped: 3,
				Outcomes: []telemetry.Outcome{{"counted", 1300, 1_500_000}, {"malformed", 0, 0}, {"non_ip", 17, 782}},
			},
			{Name: "odd\"\\\n\xff0", Backend: "afpacket", Outcomes: []telemetry.Outcome{{"counted", 1, 2}}},
		},
		Tracked: 5,
		Limit:   65536,
	}
}

// start returns a page of what read returns, and shuts it down with the test.
func start(tb testing.TB, read func() telemetry.Reading, packets bool) *telemetry.Prometheus {
	tb.Helper()
	log := slog.New(slog.NewTextHandler(tb.Output(), nil))
	page, err := telemetry.NewPrometheus(telemetry.NewSource(read, packets), log)
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

// scrape returns the whole page.
func scrape(tb testing.TB, page http.Handler) string {
	tb.Helper()
	w := httptest.NewRecorder()
	page.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		tb.Fatalf("status %d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

// ours returns the lines of a page that come from the instruments.
func ours(page string) string {
	var b strings.Builder
	for line := range strings.Lines(page) {
		name := strings.TrimPrefix(strings.TrimPrefix(line, "# HELP "), "# TYPE ")
		if strings.HasPrefix(name, "promflow_") && !strings.HasPrefix(name, "promflow_build_info") {
			b.WriteString(line)
		}
	}
	return b.String()
}

func TestPage(t *testing.T) {
	for file, c := range map[string]struct {
		reading func() telemetry.Reading
		packets bool
	}{"metrics.golden": {example, false}, "metrics-packets.golden": {example, true}, "metrics-labels.golden": {labelled, false}, "metrics-names.golden": {named, false}} {
		t.Run(file, func(t *testing.T) {
			page := start(t, c.reading, c.packets)
			whole := scrape(t, page)
			got := ours(whole)
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
	page := start(t, func() telemetry.Reading { return telemetry.Reading{} }, false)
	var b bytes.Buffer
	if err := telemetry.WriteText(&b, telemetry.Reading{}, true); err != nil {
		t.Fatal(err)
	}
	if got := ours(scrape(t, page)); got != b.String() || strings.Contains(got, "{") {
		t.Errorf("page %q, text %q; want the table's size only", got, &b)
	}
}

// The SDK's own limit is 2000.
func TestManyAddresses(t *testing.T) {
	page := start(t, func() telemetry.Reading { return hosts(5000) }, false)
	got := ours(scrape(t, page))
	if n := strings.Count(got, "\npromflow_receive_bytes_total{ip=\"10.1."); n != 5000 {
		t.Errorf("%d addresses on the page", n)
	}
	var b bytes.Buffer
	if err := telemetry.WriteText(&b, hosts(5000), false); err != nil || b.String() != got {
		t.Errorf("text differs from the page, err %v", err)
	}
}

func TestAddressesVanish(t *testing.T) {
	s := &state{reading: example()}
	page := start(t, s.read, false)
	scrape(t, page)
	first := slices.Collect(example().Hosts)
	s.set(telemetry.Reading{Hosts: slices.Values(first[1:2])})
	got := ours(scrape(t, page))
	if n := strings.Count(got, "{ip="); n != 1 || !strings.Contains(got, "receive_bytes_total{ip=\"192.168.1.2\"} 60\n") {
		t.Errorf("page is\n%s", got)
	}
	s.set(example())
	want, err := os.ReadFile("testdata/metrics.golden")
	if err != nil {
		t.Fatal(err)
	}
	if got := ours(scrape(t, page)); got != string(want) {
		t.Errorf("page after the return is\n%s", got)
	}
}

// As when a capture file is given twice.
func TestSameLabelsTwice(t *testing.T) {
	i := telemetry.Interface{Name: "a.pcap", Backend: "replay", Up: true, Outcomes: []telemetry.Outcome{{"counted", 1, 2}}}
	reading := telemetry.Reading{Interfaces: []telemetry.Interface{i, i}}
	page := start(t, func() telemetry.Reading { return reading }, false)
	var b bytes.Buffer
	if err := telemetry.WriteText(&b, reading, false); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		got := ours(scrape(t, page))
		if got != b.String() || !strings.Contains(got, "capture_bytes_total{interface=\"a.pcap\",outcome=\"counted\"} 4\n") {
			t.Errorf("page is\n%s\ntext is\n%s", got, &b)
		}
	}
}

func TestConcurrentReaders(t *testing.T) {
	s := &state{reading: hosts(300)}
	source := telemetry.NewSource(s.read, true)
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	page, err := telemetry.NewPrometheus(source, log)
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
					s.set(hosts(200 + n*10)) // addresses come and go meanwhile
				case i%2 == 0:
					if err := manual.Collect(t.Context(), &metricdata.ResourceMetrics{}); err != nil {
						t.Error(err)
					}
				default:
					got := ours(scrape(t, page))
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
	if err := telemetry.WriteText(failingWriter{}, example(), false); err != os.ErrClosed {
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
