package telemetry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/collectors/version"
	"github.com/prometheus/common/expfmt"
	otelprom "go.opentelemetry.io/otel/exporters/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"golang.org/x/sync/singleflight"

	"promflow/telemetry/exposition"
)

// maxScrapes bounds the scrapes that are answered at the same time, for each of which a page may be held; one more is answered
// with 503.
const maxScrapes = 16

// Prometheus is the reader behind the metrics page, and the handler that serves it.
//
// The reader is that of the SDK's Prometheus exporter. What the exporter would do next, to turn each series into a
// client_golang metric for a registry to sort, check and encode, takes most of a page's time and memory. The handler asks the
// reader itself, and has package exposition write what the exporter's page would be.
type Prometheus struct {
	sdkmetric.Reader

	process prometheus.Gatherer // the Go runtime, the process and the build
	log     *slog.Logger
	slots   chan struct{}
	making  singleflight.Group // of pages, by format
}

// NewPrometheus returns a reader of source, and the page of its metrics with those of the Go runtime, the process and the
// build. While the reader is part of no provider, the page has only these.
//
// The page comes in the format that a scraper asks for, compressed if it can read that. Scrapes that overlap share the one that
// is being made: each has the totals of an instant that is at most as old as it takes to make a page. What goes wrong with
// a part of a page is logged, and the page then has the rest.
func NewPrometheus(source *Source, log *slog.Logger) (*Prometheus, error) {
	routeSDKLogs(log)
	process := prometheus.NewRegistry()
	process.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		version.NewCollector("promflow"),
	)
	// Without scope and target info the series have the labels of the metrics and no other.
	exporter, err := otelprom.New(
		otelprom.WithRegisterer(prometheus.NewRegistry()), // which nobody asks
		otelprom.WithProducer(source),
		otelprom.WithTranslationStrategy(exposition.Translation),
		otelprom.WithoutScopeInfo(),
		otelprom.WithoutTargetInfo(),
	)
	if err != nil {
		return nil, fmt.Errorf("Prometheus exporter: %w", err)
	}
	return &Prometheus{Reader: exporter, process: process, log: log, slots: make(chan struct{}, maxScrapes)}, nil
}

func (p *Prometheus) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	default:
		http.Error(w, fmt.Sprintf("%d scrapes are under way, try again later", maxScrapes), http.StatusServiceUnavailable)
		return
	}
	format := expfmt.NegotiateAccept(r.Header, exposition.Formats...)
	made, err, _ := p.making.Do(string(format), func() (any, error) { return p.make(format) })
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	encoding := acceptedEncoding(r.Header)
	body, err := made.(*page).encoded(encoding)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", string(format))
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Vary", "Accept, Accept-Encoding")
	if encoding != "" {
		h.Set("Content-Encoding", encoding)
	}
	// In parts, so that a server can tell a client that reads slowly from one that does not read.
	for part := range slices.Chunk(body, 64<<10) {
		if _, err := w.Write(part); err != nil {
			return // the client is gone
		}
	}
}

// make makes a page.
func (p *Prometheus) make(format expfmt.Format) (*page, error) {
	var metrics metricdata.ResourceMetrics
	err := p.Collect(context.Background(), &metrics)
	if err != nil && !errors.Is(err, sdkmetric.ErrReaderNotRegistered) {
		return nil, fmt.Errorf("collecting metrics: %w", err)
	}
	others, err := p.process.Gather()
	if err != nil {
		p.log.Error("metrics of the process are incomplete", "err", err)
	}
	body, err := exposition.Append(nil, format, metrics.ScopeMetrics, others)
	if err != nil {
		p.log.Error("the metrics page is incomplete", "err", err)
	}
	return newPage(body), nil
}

// page is a page as it is and, once that has been asked for, compressed. Scrapes share it.
type page struct {
	plain      []byte
	gzip, zstd func() ([]byte, error)
}

func newPage(plain []byte) *page {
	once := func(compress func([]byte) ([]byte, error)) func() ([]byte, error) {
		return sync.OnceValues(func() ([]byte, error) { return compress(plain) })
	}
	return &page{plain: plain, gzip: once(compressGzip), zstd: once(compressZstd)}
}

// encoded gives the page in one of the encodings of acceptedEncoding.
func (p *page) encoded(encoding string) ([]byte, error) {
	switch encoding {
	case "zstd":
		return p.zstd()
	case "gzip":
		return p.gzip()
	}
	return p.plain, nil
}

func compressGzip(plain []byte) ([]byte, error) {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	_, err = w.Write(plain)
	err = errors.Join(err, w.Close())
	return b.Bytes(), err
}

func compressZstd(plain []byte) ([]byte, error) {
	w, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	defer w.Close()
	return w.EncodeAll(plain, nil), nil
}

// acceptedEncoding gives the one to use of those that the client can read: "zstd", "gzip", or "" for none. By RFC 9110, section
// 12.5.3, an encoding with the weight 0 cannot be read.
func acceptedEncoding(h http.Header) string {
	accepted := map[string]bool{}
	for each := range strings.SplitSeq(strings.Join(h.Values("Accept-Encoding"), ","), ",") {
		name, weight, _ := strings.Cut(strings.ToLower(strings.Join(strings.Fields(each), "")), ";")
		q, err := strconv.ParseFloat(strings.TrimPrefix(weight, "q="), 64)
		accepted[name] = weight == "" || err == nil && q > 0
	}
	for _, name := range []string{"zstd", "gzip"} {
		if accepted[name] {
			return name
		}
	}
	return ""
}
