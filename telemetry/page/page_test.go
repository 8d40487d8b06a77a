package page_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"promflow/telemetry"
	"promflow/telemetry/page"
	"promflow/telemetry/telemetrytest"
)

func TestMain(m *testing.M) { telemetrytest.Main(m) }

// What scrapers say that they accept.
const (
	// 2.42 and 3.16.
	acceptPrometheus2 = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75," +
		"text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
	acceptPrometheus3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.7," +
		"application/openmetrics-text;version=0.0.1;q=0.6,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.5," +
		"text/plain;version=0.0.4;q=0.4,*/*;q=0.3"
	// With native histograms, or with created-timestamp-zero-ingestion.
	acceptPrometheus3Protobuf = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.7," +
		"application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5," +
		"text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
	acceptText     = "text/plain"
	acceptProtobuf = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
)

// server serves a page over HTTP for a test.
type server struct {
	*httptest.Server
	client   *http.Client
	handlers sync.WaitGroup // that are not done
}

func serve(tb testing.TB, page http.Handler) *server {
	tb.Helper()
	s := &server{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.handlers.Add(1)
		defer s.handlers.Done()
		page.ServeHTTP(w, r)
	}))
	// Without DisableCompression the transport asks for gzip by itself, and decompresses.
	s.client = &http.Client{
		Transport: &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 32},
		Timeout:   30 * time.Second,
	}
	tb.Cleanup(func() {
		s.client.CloseIdleConnections()
		s.Close()
	})
	return s
}

// get returns a response with its whole body as it was sent. A header that is empty is not sent.
func (s *server) get(ctx context.Context, accept, acceptEncoding string) (*http.Response, []byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL, nil)
	if err != nil {
		return nil, nil, err
	}
	for name, value := range map[string]string{"Accept": accept, "Accept-Encoding": acceptEncoding} {
		if value != "" {
			r.Header.Set(name, value)
		}
	}
	response, err := s.client.Do(r)
	if err != nil {
		return nil, nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response, body, err
}

// mustGet is get for a response that must be there and be 200.
func (s *server) mustGet(tb testing.TB, accept, acceptEncoding string) (*http.Response, []byte) {
	tb.Helper()
	response, body, err := s.get(tb.Context(), accept, acceptEncoding)
	if err != nil {
		tb.Fatal(err)
	}
	if response.StatusCode != http.StatusOK {
		tb.Fatalf("%s: %s", response.Status, body)
	}
	return response, body
}

// openMetricsAsText turns a page of OpenMetrics into one of the text format, which the parser can read.
func openMetricsAsText(page []byte) ([]byte, error) {
	body, ok := bytes.CutSuffix(page, []byte("\n# EOF\n"))
	if !ok {
		return nil, fmt.Errorf("no # EOF at the end: %q", page[max(0, len(page)-100):])
	}
	if bytes.Contains(body, []byte("# EOF")) {
		return nil, fmt.Errorf("# EOF in the middle")
	}
	var b, help bytes.Buffer // the line before that of the type
	for line := range bytes.Lines(append(body, '\n')) {
		fields := strings.Fields(string(line))
		switch {
		case fields[0] == "#" && fields[1] == "HELP":
			help.Write(line)
			continue
		case fields[0] == "#" && fields[1] == "TYPE" && fields[3] == "counter":
			name, total := []byte(fields[2]), []byte(fields[2]+"_total")
			b.Write(bytes.Replace(help.Bytes(), name, total, 1))
			line = bytes.Replace(line, name, total, 1)
		default:
			b.Write(help.Bytes())
		}
		help.Reset()
		b.Write(line)
	}
	return b.Bytes(), nil
}

// parse reads a page in the format of a response.
func parse(contentType string, page []byte) (map[string]*dto.MetricFamily, error) {
	kind, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return nil, err
	}
	switch kind {
	case "application/openmetrics-text":
		if page, err = openMetricsAsText(page); err != nil {
			return nil, err
		}
		fallthrough
	case "text/plain":
		parser := expfmt.NewTextParser(model.UTF8Validation)
		return parser.TextToMetricFamilies(bytes.NewReader(page))
	}
	families := map[string]*dto.MetricFamily{}
	decoder := expfmt.NewDecoder(bytes.NewReader(page), expfmt.ResponseFormat(http.Header{"Content-Type": {contentType}}))
	for {
		f := &dto.MetricFamily{}
		if err := decoder.Decode(f); err == io.EOF {
			return families, nil
		} else if err != nil {
			return nil, err
		}
		families[f.GetName()] = f
	}
}

// counters returns the values of promflow's own series.
func counters(families map[string]*dto.MetricFamily) map[string]float64 {
	values := map[string]float64{}
	for name, f := range families {
		if !strings.HasPrefix(name, "promflow_") || name == "promflow_build_info" {
			continue
		}
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			value := m.GetGauge().GetValue()
			if f.GetType() == dto.MetricType_COUNTER {
				value = m.GetCounter().GetValue()
			}
			values[name+"{"+strings.Join(labels, ",")+"}"] = value
		}
	}
	return values
}

// checkPage checks that a page parses, is whole, and has want.
func checkPage(tb testing.TB, contentType string, body []byte, want map[string]float64) {
	tb.Helper()
	families, err := parse(contentType, body)
	if err != nil {
		tb.Fatalf("%s: %v", contentType, err)
	}
	got := counters(families)
	for series, value := range want {
		if v, ok := got[series]; !ok || v != value {
			tb.Errorf("%s: %s is %v, want %v", contentType, series, v, value)
		}
	}
	if len(got) != len(want) {
		tb.Errorf("%s: %d series, want %d", contentType, len(got), len(want))
	}
	names := []string{"go_goroutines", "go_gc_duration_seconds", "promflow_build_info"}
	if runtime.GOOS == "linux" || runtime.GOOS == "windows" || runtime.GOOS == "darwin" {
		names = append(names, "process_cpu_seconds_total")
	}
	for _, name := range names {
		if len(families[name].GetMetric()) == 0 {
			tb.Errorf("%s: no %s", contentType, name)
		}
	}
}

// exampleCounters are those of telemetrytest.Example, as they are on the page.
func exampleCounters(tb testing.TB) map[string]float64 {
	tb.Helper()
	var b bytes.Buffer
	if err := telemetry.WriteText(&b, telemetrytest.Example(), false); err != nil {
		tb.Fatal(err)
	}
	families, err := parse("text/plain", b.Bytes())
	if err != nil {
		tb.Fatal(err)
	}
	all := counters(families)
	if all[`promflow_receive_bytes_total{ip="192.168.1.133"}`] != 194179 {
		tb.Fatalf("series are %v", all)
	}
	return all
}

func TestPageNegotiatesFormat(t *testing.T) {
	s := serve(t, telemetrytest.Start(t, telemetrytest.Example, false))
	want := exampleCounters(t)
	const (
		text         = "text/plain; version=0.0.4; charset=utf-8"
		openMetrics1 = "application/openmetrics-text; version=1.0.0; charset=utf-8"
		openMetrics0 = "application/openmetrics-text; version=0.0.1; charset=utf-8"
		protobuf     = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
	)
	for _, test := range []struct{ name, accept, contentType string }{
		{"none", "", text},
		{"curl", "*/*", text},
		{"a browser", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8", text},
		{"Prometheus 2", acceptPrometheus2, openMetrics1},
		{"Prometheus 3", acceptPrometheus3, openMetrics1},
		{"Prometheus 3, native histograms", acceptPrometheus3Protobuf, protobuf},
		{"text", "text/plain", text},
		{"old OpenMetrics", "application/openmetrics-text; version=0.0.1", openMetrics0},
		{"OpenMetrics of no version", "application/openmetrics-text", openMetrics0},
		{"OpenMetrics of a version to come", "application/openmetrics-text; version=9.0.0", text},
		{"Protocol Buffers as text", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text", text},
		{"what it is not", "application/json", text},
		{"nonsense", ";;,/;q=x", text},
	} {
		t.Run(test.name, func(t *testing.T) {
			response, body := s.mustGet(t, test.accept, "")
			got := response.Header.Get("Content-Type")
			// The escaping of names is of no account for names of letters and underscores.
			if got, _, _ := strings.Cut(got, "; escaping="); got != test.contentType {
				t.Errorf("Content-Type %q, want %q", got, test.contentType)
			}
			checkPage(t, got, body, want)
			if test.contentType == text {
				if problems, err := promlint.New(bytes.NewReader(body)).Lint(); err != nil || len(problems) > 0 {
					t.Error("promlint:", problems, err)
				}
			}
		})
	}
}

func TestPageSaysWhenCountersBegan(t *testing.T) {
	before := time.Now()
	s := serve(t, telemetrytest.Start(t, telemetrytest.Example, false))
	after := time.Now()
	response, body := s.mustGet(t, acceptPrometheus3Protobuf, "")
	families, err := parse(response.Header.Get("Content-Type"), body)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"promflow_receive_bytes_total", "promflow_capture_packets_total"} {
		for _, m := range families[name].GetMetric() {
			began := m.GetCounter().GetCreatedTimestamp().AsTime()
			if began.Before(before.Add(-time.Second)) || began.After(after) {
				t.Errorf("%s began at %v, want when the source was made", name, began)
			}
		}
	}
}

// decompress undoes a Content-Encoding.
func decompress(encoding string, body []byte) ([]byte, error) {
	switch encoding {
	case "":
		return body, nil
	case "gzip":
		r, err := gzip.NewReader(bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		return io.ReadAll(r)
	case "zstd":
		r, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, err
		}
		defer r.Close()
		return r.DecodeAll(body, nil)
	}
	return nil, fmt.Errorf("Content-Encoding %q", encoding)
}

func TestPageNegotiatesEncoding(t *testing.T) {
	s := serve(t, telemetrytest.Start(t, telemetrytest.Example, false))
	want := exampleCounters(t)
	for _, test := range []struct{ accept, encoding string }{
		{"", ""},
		{"identity", ""},
		{"deflate", ""},
		{"br, deflate", ""},
		{"gzip", "gzip"},
		{"GZIP", "gzip"},
		{"gzip;q=1.0", "gzip"},
		{"gzip; q=0.001", "gzip"},
		{"gzip, deflate, br", "gzip"},
		{"deflate,gzip;q=0.5", "gzip"},
		{"gzip;q=0", ""},
		{"gzip; q=0.000", ""},
		{"gzip;q=0, zstd", "zstd"},
		{"zstd;q=0, gzip", "gzip"},
		{"zstd", "zstd"},
		{"gzip, deflate, br, zstd", "zstd"},
		{"gzip;q=x", ""},
		{"x-gzip", ""},
		{",", ""},
	} {
		t.Run(test.accept, func(t *testing.T) {
			for _, accept := range []string{acceptText, acceptPrometheus2, acceptProtobuf} {
				response, body := s.mustGet(t, accept, test.accept)
				h := response.Header
				if got := h.Get("Content-Encoding"); got != test.encoding {
					t.Fatalf("Content-Encoding %q, want %q", got, test.encoding)
				}
				if got := h.Get("Content-Length"); got != strconv.Itoa(len(body)) {
					t.Errorf("Content-Length %q of %d bytes", got, len(body))
				}
				if got := h.Values("Vary"); !slices.Equal(got, []string{"Accept, Accept-Encoding"}) {
					t.Errorf("Vary %q", got)
				}
				plain, err := decompress(test.encoding, body)
				if err != nil {
					t.Fatal(err)
				}
				checkPage(t, h.Get("Content-Type"), plain, want)
			}
		})
	}
}

// Headers may come in several lines.
func TestPageJoinsAcceptEncodingLines(t *testing.T) {
	s := serve(t, telemetrytest.Start(t, telemetrytest.Example, false))
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header["Accept-Encoding"] = []string{"deflate", "gzip"}
	response, err := s.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if got := response.Header.Get("Content-Encoding"); got != "gzip" {
		t.Errorf("Content-Encoding %q", got)
	}
}

// Of a HEAD request the response is that of GET without the page.
func TestPageAnswersHead(t *testing.T) {
	s := serve(t, telemetrytest.Start(t, telemetrytest.Example, false))
	response, err := s.client.Head(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || len(body) > 0 || response.StatusCode != http.StatusOK || response.ContentLength < 1000 {
		t.Errorf("%s, length %d, body %q, err %v", response.Status, response.ContentLength, body, err)
	}
}

// countReads returns a reading whose table has as many addresses as there have been readings.
func countReads(calls *atomic.Int64) func() telemetry.Reading {
	return func() telemetry.Reading {
		return telemetry.Reading{Hosts: telemetrytest.Hosts(0).Hosts, Tracked: calls.Add(1)}
	}
}

func trackedIPs(n int) string { return fmt.Sprintf("\npromflow_tracked_ips %d\n", n) }

func TestScrapesAtOnceShareAReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		gate := make(chan struct{})
		read := countReads(&calls)
		page := telemetrytest.Start(t, func() telemetry.Reading {
			<-gate
			return read()
		}, false)
		var scrapes sync.WaitGroup
		for range 4 {
			scrapes.Go(func() {
				if got := telemetrytest.Scrape(t, page); !strings.Contains(got, trackedIPs(1)) {
					t.Errorf("page is\n%s\nwant that of the first reading", telemetrytest.Ours(got))
				}
			})
		}
		synctest.Wait() // until one waits for the gate and the others for that one; for ever, if they wait for a lock
		close(gate)
		scrapes.Wait()
		if n := calls.Load(); n != 1 {
			t.Errorf("%d readings for 4 scrapes at once, want 1", n)
		}
		if got := telemetrytest.Scrape(t, page); calls.Load() != 2 || !strings.Contains(got, trackedIPs(2)) {
			t.Errorf("a later scrape is the %d. reading, page\n%s", calls.Load(), telemetrytest.Ours(got))
		}
	})
}

func TestScrapesInSeveralFormatsAtOnce(t *testing.T) {
	s := serve(t, telemetrytest.Start(t, telemetrytest.Example, false))
	want := exampleCounters(t)
	formats := map[string]string{
		acceptText:        "text/plain; version=0.0.4;",
		acceptPrometheus2: "application/openmetrics-text; version=1.0.0;",
		"application/openmetrics-text;version=0.0.1": "application/openmetrics-text; version=0.0.1;",
		acceptProtobuf: "application/vnd.google.protobuf;",
	}
	var scrapes sync.WaitGroup
	for accept, contentType := range formats {
		for _, encoding := range []string{"", "gzip", "zstd"} {
			scrapes.Go(func() {
				for range 10 {
					response, body, err := s.get(t.Context(), accept, encoding)
					if err != nil {
						t.Error(err)
						return
					}
					got := response.Header.Get("Content-Type")
					if !strings.HasPrefix(got, contentType) || response.Header.Get("Content-Encoding") != encoding {
						t.Errorf("headers %v, want %s in %q", response.Header, contentType, encoding)
					}
					plain, err := decompress(encoding, body)
					if err != nil {
						t.Error(err)
						return
					}
					families, err := parse(got, plain)
					if err != nil {
						t.Error(err)
						return
					}
					for series, value := range counters(families) {
						if want[series] != value {
							t.Errorf("%s: %s is %v, want %v", got, series, value, want[series])
						}
					}
				}
			})
		}
	}
	scrapes.Wait()
}

// unread is the answer to a client that does not read.
type unread struct {
	http.ResponseWriter
	cut  chan struct{}
	once sync.Once
}

func (u *unread) Write([]byte) (int, error) {
	<-u.cut
	return 0, os.ErrDeadlineExceeded
}

func (u *unread) SetWriteDeadline(time.Time) error {
	u.once.Do(func() { close(u.cut) })
	return nil
}

func TestPagesThatAreNotReadMakeRoom(t *testing.T) {
	const pages, patience = 6, time.Second
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		page := telemetrytest.Start(t, countReads(&calls), false)
		var clients []*unread
		var scrapes sync.WaitGroup
		for range pages {
			for range 2 { // that share a page
				c := &unread{ResponseWriter: httptest.NewRecorder(), cut: make(chan struct{})}
				clients = append(clients, c)
				scrapes.Go(func() { page.ServeHTTP(c, httptest.NewRequest(http.MethodGet, "/", nil)) })
			}
			synctest.Wait()
		}
		cut := func() (n int) {
			for _, c := range clients {
				select {
				case <-c.cut:
					n++
				default:
				}
			}
			return n
		}
		made := calls.Load()
		if n := cut(); n != 0 || made < pages {
			t.Fatalf("%d were cut off while there was room, %d pages made", n, made)
		}
		begin := time.Now()
		if got := telemetrytest.Scrape(t, page); !strings.Contains(got, trackedIPs(int(made)+1)) {
			t.Errorf("page is\n%s\nwant that of a reading of its own", telemetrytest.Ours(got))
		}
		if took := time.Since(begin); took != patience {
			t.Errorf("a scrape that had no room took %v, want %v", took, patience)
		}
		if n := cut(); n == 0 || n == len(clients) {
			t.Errorf("%d of %d were cut off, want those of the oldest page", n, len(clients))
		}
		for _, c := range clients {
			c.SetWriteDeadline(time.Now())
		}
		scrapes.Wait()
		begin = time.Now()
		if telemetrytest.Scrape(t, page); time.Since(begin) != 0 {
			t.Error("a scrape had to wait though there was room")
		}
	})
}

func TestClientGoesAwayWhileItWaits(t *testing.T) {
	reading, gate := make(chan struct{}, 2), make(chan struct{})
	page := telemetrytest.Start(t, func() telemetry.Reading {
		reading <- struct{}{}
		<-gate
		return telemetrytest.Example()
	}, false)
	s := serve(t, page)
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan error)
	go func() {
		_, _, err := s.get(ctx, "", "")
		left <- err
	}()
	<-reading // for the one that is about to leave
	leave()
	if err := <-left; err == nil {
		t.Error("a page before the gate was open")
	}
	stayed := make(chan error)
	go func() {
		_, body, err := s.get(t.Context(), "", "")
		if err == nil && !strings.Contains(string(body), "receive_bytes_total{ip=\"192.168.1.133\"} 194179\n") {
			err = fmt.Errorf("page is %s", body)
		}
		stayed <- err
	}()
	close(gate)
	if err := <-stayed; err != nil {
		t.Error("the one that stayed:", err)
	}
}

// Each takes a part of the page and leaves; more do so than may scrape at once.
func TestClientsGoAwayInMidPage(t *testing.T) {
	reading := telemetrytest.Hosts(20_000)
	s := serve(t, telemetrytest.Start(t, func() telemetry.Reading { return reading }, false))
	for range 20 {
		connection, err := net.Dial("tcp", s.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(connection, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(connection, make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		connection.Close()
	}
	s.handlers.Wait()
	_, body := s.mustGet(t, "", "")
	if n := bytes.Count(body, []byte("\npromflow_receive_bytes_total{")); n != 20_000 {
		t.Errorf("%d addresses on the page", n)
	}
}

func TestPageOfReaderWithoutProvider(t *testing.T) {
	var logged bytes.Buffer
	source := telemetry.NewSource(func() telemetry.Reading {
		t.Error("read, though there is no provider")
		return telemetrytest.Example()
	}, false)
	page, err := page.New(source, slog.New(slog.NewTextHandler(&logged, nil)))
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, page)
	for _, accept := range []string{acceptText, acceptPrometheus2, acceptProtobuf} {
		response, body := s.mustGet(t, accept, "")
		checkPage(t, response.Header.Get("Content-Type"), body, nil)
	}
	if logged.Len() > 0 {
		t.Errorf("logged %s", &logged)
	}
}

// A page that says less than it used to would look as if all counters had vanished.
func TestPageAfterShutdownIsAnError(t *testing.T) {
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	page, err := page.New(telemetry.NewSource(telemetrytest.Example, false), log)
	if err != nil {
		t.Fatal(err)
	}
	provider := telemetry.New("", log, page)
	s := serve(t, page)
	s.mustGet(t, "", "")
	if err := provider.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	response, body, err := s.get(t.Context(), "", "")
	if err != nil || response.StatusCode != http.StatusInternalServerError {
		t.Errorf("%v, %s, err %v", response, body, err)
	}
}

// The page is the same, in every format, whatever is on it: odd names, no addresses, more addresses than the SDK's limit.
func TestPageIsTheSameInEveryFormat(t *testing.T) {
	for name, reading := range map[string]telemetry.Reading{
		"nothing": telemetrytest.Hosts(0), "example": telemetrytest.Example(), "labels": telemetrytest.Labelled(), "names": telemetrytest.Named(), "many addresses": telemetrytest.Hosts(3000),
		"one address": {Hosts: slices.Values([]telemetry.Host{{Addr: netip.MustParseAddr("fe80::1%eth0\"\\"), ReceiveBytes: 1}})},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, telemetrytest.Start(t, func() telemetry.Reading { return reading }, true))
			response, body := s.mustGet(t, acceptText, "")
			families, err := parse(response.Header.Get("Content-Type"), body)
			if err != nil {
				t.Fatal(err)
			}
			for _, accept := range []string{acceptPrometheus2, acceptProtobuf} {
				response, body := s.mustGet(t, accept, "gzip")
				plain, err := decompress("gzip", body)
				if err != nil {
					t.Fatal(err)
				}
				checkPage(t, response.Header.Get("Content-Type"), plain, counters(families))
			}
		})
	}
}
