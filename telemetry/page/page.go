// Package page serves the metrics to Prometheus, in the formats and encodings that scrapers ask for.
package page

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
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/collectors/version"
	"github.com/prometheus/common/expfmt"
	otelprom "go.opentelemetry.io/otel/exporters/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"promflow/telemetry"
	"promflow/telemetry/exposition"
	"promflow/telemetry/sdk"
)

// What scrapes may take. A page is held until the last of the scrapes that share it has read it, which may be never.
const (
	maxPages   = 16          // that are held at the same time
	maxScrapes = 256         // that are answered at the same time; one more is answered with 503
	patience   = time.Second // how long a page may be read when there is no room for another
)

// Page is the reader behind the metrics page, and the handler that serves it.
//
// The reader is that of the SDK's Prometheus exporter. What the exporter would do next, to turn each series into a
// client_golang metric for a registry to sort, check and encode, takes most of a page's time and memory. The handler asks the
// reader itself, and has package exposition write what the exporter's page would be.
type Page struct {
	sdkmetric.Reader

	process prometheus.Gatherer // the Go runtime, the process and the build
	log     *slog.Logger
	slots   chan struct{} // one for each page that is held, or being made

	mu      sync.Mutex
	scrapes int                     // that are being answered, and not cut off
	making  map[expfmt.Format]*page // or about to be made
	held    []*page                 // that are made, and not cut off, the oldest first
}

// New returns a reader of source, and the page of its metrics with those of the Go runtime, the process and the
// build. While the reader is part of no provider, the page has only these.
//
// The page comes in the format that a scraper asks for, compressed if it can read that. Scrapes that overlap share the one that
// is being made: each has the totals of an instant that is at most as old as it takes to make a page. What goes wrong with
// a part of a page is logged, and the page then has the rest.
//
// When there is no room for another page, those who read the oldest are cut off once they have had a second for it: clients that
// read slowly, or not at all, do not keep others waiting.
func New(source *telemetry.Source, log *slog.Logger) (*Page, error) {
	sdk.RouteLogs(log)
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
		return nil, fmt.Errorf("the exporter for Prometheus: %w", err)
	}
	return &Page{
		Reader: exporter, process: process, log: log, slots: make(chan struct{}, maxPages), making: map[expfmt.Format]*page{},
	}, nil
}

func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	format := expfmt.NegotiateAccept(r.Header, exposition.Formats...)
	scrape := http.NewResponseController(w)
	shared, begun := p.join(format, scrape)
	if shared == nil {
		http.Error(w, fmt.Sprintf("%d scrapes are under way, try again later", maxScrapes), http.StatusServiceUnavailable)
		return
	}
	defer p.leave(shared, scrape)
	if !begun {
		p.make(shared, format)
	}
	<-shared.ready
	if shared.err != nil {
		http.Error(w, shared.err.Error(), http.StatusInternalServerError)
		return
	}
	encoding := acceptedEncoding(r.Header)
	body, err := shared.encoded(encoding)
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
			return // the client is gone, or was cut off
		}
	}
}

// join gives a scrape the page that is being made in its format, or a new one for it to make; nil if there is no room.
func (p *Page) join(format expfmt.Format, scrape *http.ResponseController) (shared *page, begun bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.scrapes >= maxScrapes {
		p.cutOff()
	}
	if p.scrapes >= maxScrapes {
		return nil, false
	}
	shared, begun = p.making[format]
	if !begun {
		shared = newPage()
		p.making[format] = shared
	}
	shared.scrapes[scrape] = true
	p.scrapes++
	return shared, begun
}

// leave ends a scrape, and with the last one that shares a page the page, which has been made.
func (p *Page) leave(shared *page, scrape *http.ResponseController) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(shared.scrapes, scrape)
	if !shared.cut {
		p.scrapes--
	}
	if len(shared.scrapes) == 0 {
		p.held = slices.DeleteFunc(p.held, func(each *page) bool { return each == shared })
		<-p.slots
	}
}

// takeSlot waits until there is room for a page, and sees to it that it comes.
func (p *Page) takeSlot() {
	select {
	case p.slots <- struct{}{}:
		return
	default:
	}
	for {
		p.mu.Lock()
		again := p.cutOff()
		p.mu.Unlock()
		select {
		case p.slots <- struct{}{}:
			return
		case <-time.After(again):
		}
	}
}

// cutOff ends the scrapes that share the oldest page if they have had the time to read it, and gives in what time to try that again.
// The caller holds mu.
func (p *Page) cutOff() (again time.Duration) {
	if len(p.held) == 0 {
		return patience
	}
	oldest := p.held[0]
	if left := patience - time.Since(oldest.made); left > 0 {
		return left
	}
	oldest.cut = true
	p.held = p.held[1:]
	p.scrapes -= len(oldest.scrapes)
	for scrape := range oldest.scrapes {
		_ = scrape.SetWriteDeadline(time.Now()) // an error is the connection's, which is gone then
	}
	return patience
}

// make makes a page once there is room for it. From then on no other scrape shares it.
func (p *Page) make(shared *page, format expfmt.Format) {
	p.takeSlot()
	defer close(shared.ready)
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.making, format)
		shared.made = time.Now()
		p.held = append(p.held, shared)
	}()
	shared.plain, shared.err = p.collect(format)
}

// collect gives the page of this instant.
func (p *Page) collect(format expfmt.Format) ([]byte, error) {
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
	return body, nil
}

// page is a page as it is and, once that has been asked for, compressed. Scrapes share it.
type page struct {
	ready      chan struct{} // closed once there is what follows
	plain      []byte
	err        error
	gzip, zstd func() ([]byte, error)

	// For those who hold mu of Page:
	scrapes map[*http.ResponseController]bool // that share it
	made    time.Time
	cut     bool // they were cut off
}

func newPage() *page {
	p := &page{ready: make(chan struct{}), scrapes: map[*http.ResponseController]bool{}}
	once := func(compress func([]byte) ([]byte, error)) func() ([]byte, error) {
		return sync.OnceValues(func() ([]byte, error) { return compress(p.plain) })
	}
	p.gzip, p.zstd = once(compressGzip), once(compressZstd)
	return p
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
