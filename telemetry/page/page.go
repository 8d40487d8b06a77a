// Package page serves the metrics to Prometheus, in the formats and encodings that scrapers accept.
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
	"github.com/prometheus/common/model"
	otelprom "go.opentelemetry.io/otel/exporters/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"promflow/telemetry"
	"promflow/telemetry/exposition"
	"promflow/telemetry/sdk"
)

// A page stays in memory until all scrapes that share it have ended.
const (
	maxPages = 6           // in memory
	patience = time.Second // how long clients may take to read a page when another one needs its room
)

// Page is the reader behind the metrics page, and the handler that serves it.
//
// The reader is that of the SDK's Prometheus exporter. The exporter itself would turn each series into a client_golang metric, and a
// registry would sort, check and encode them: most of the time and memory of a page. The handler collects from the reader, and
// package exposition writes the same page.
type Page struct {
	sdkmetric.Reader

	process prometheus.Gatherer // the Go runtime, the process and the build
	log     *slog.Logger
	slots   chan struct{} // taken by the pages in memory

	mu      sync.Mutex
	pending map[expfmt.Format]*page // waiting for a slot or being made: further scrapes join these
	made    []*page                 // not cut off, the oldest first
}

// New returns a reader of source, and the page of its metrics and those of the Go runtime, the process and the build. While the reader
// has no provider, the page has only the latter.
//
// The client chooses format and compression. Scrapes that overlap share a page if it is not made yet, so their totals are at most as
// old as it takes to make a page. Errors in a part of the page are logged, and the page has the rest.
//
// When there is no room for another page, clients that have been reading the oldest for a second are cut off: slow clients do not keep
// others waiting.
func New(source *telemetry.Source, log *slog.Logger) (*Page, error) {
	sdk.RouteLogs(log)
	process := prometheus.NewRegistry()
	process.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		version.NewCollector("promflow"),
	)
	// Scope and target info would add labels and series.
	exporter, err := otelprom.New(
		otelprom.WithRegisterer(prometheus.NewRegistry()), // instead of the global one
		otelprom.WithProducer(source),
		otelprom.WithTranslationStrategy(exposition.Translation),
		otelprom.WithoutScopeInfo(),
		otelprom.WithoutTargetInfo(),
	)
	if err != nil {
		return nil, fmt.Errorf("making the Prometheus exporter: %w", err)
	}
	return &Page{
		Reader: exporter, process: process, log: log, slots: make(chan struct{}, maxPages), pending: map[expfmt.Format]*page{},
	}, nil
}

func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	accepted := expfmt.NegotiateAccept(r.Header, exposition.Formats...)
	format := accepted.WithEscapingScheme(model.NoEscaping) // names on the page need none
	scrape := http.NewResponseController(w)
	shared, joined := p.join(format, scrape)
	defer p.leave(shared, scrape)
	if !joined {
		p.make(shared, format)
	}
	<-shared.ready
	if shared.err != nil {
		http.Error(w, shared.err.Error(), http.StatusInternalServerError)
		return
	}
	encoding := acceptedEncoding(r.Header)
	body := shared.encoded[encoding]()
	h := w.Header()
	h.Set("Content-Type", string(accepted))
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Vary", "Accept, Accept-Encoding")
	if encoding != "" {
		h.Set("Content-Encoding", encoding)
	}
	_, _ = w.Write(body) // fails if the client has gone, or was cut off
}

// join returns the pending page in a format, or else a new one for the scrape to make.
func (p *Page) join(format expfmt.Format, scrape *http.ResponseController) (shared *page, joined bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	shared, joined = p.pending[format]
	if !joined {
		shared = newPage()
		p.pending[format] = shared
	}
	shared.scrapes[scrape] = true
	return shared, joined
}

// leave ends a scrape. The last scrape of a page frees its slot.
func (p *Page) leave(shared *page, scrape *http.ResponseController) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(shared.scrapes, scrape)
	if len(shared.scrapes) == 0 {
		p.made = slices.DeleteFunc(p.made, func(each *page) bool { return each == shared })
		<-p.slots
	}
}

// takeSlot waits for a slot, and cuts off scrapes until there is one.
func (p *Page) takeSlot() {
	for {
		wait := patience
		if len(p.slots) == maxPages {
			wait = p.cutOff()
		}
		select {
		case p.slots <- struct{}{}:
			return
		case <-time.After(wait):
		}
	}
}

// cutOff ends the scrapes of the oldest page if they have had enough time to read it, and returns when to try again.
func (p *Page) cutOff() (wait time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.made) == 0 {
		return patience
	}
	oldest := p.made[0]
	if left := patience - time.Since(oldest.at); left > 0 {
		return left
	}
	p.made = p.made[1:]
	for scrape := range oldest.scrapes {
		_ = scrape.SetWriteDeadline(time.Now()) // fails only if the connection has gone
	}
	return patience
}

// make makes a page once it has a slot. After that no scrape joins it any more.
func (p *Page) make(shared *page, format expfmt.Format) {
	p.takeSlot()
	defer close(shared.ready)
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.pending, format)
		shared.at = time.Now()
		p.made = append(p.made, shared)
	}()
	shared.plain, shared.err = p.collect(format)
}

// collect returns the page of this instant.
func (p *Page) collect(format expfmt.Format) ([]byte, error) {
	var metrics metricdata.ResourceMetrics
	err := p.Collect(context.Background(), &metrics)
	if err != nil && !errors.Is(err, sdkmetric.ErrReaderNotRegistered) {
		return nil, fmt.Errorf("collecting metrics: %w", err)
	}
	others, err := p.process.Gather()
	if err != nil {
		p.log.Error("the metrics page lacks metrics of the process", "err", err)
	}
	body, err := exposition.Append(nil, format, metrics.ScopeMetrics, others)
	if err != nil {
		p.log.Error("the metrics page is incomplete", "err", err)
	}
	return body, nil
}

// page is a page that scrapes share.
type page struct {
	ready   chan struct{} // closed when plain and err are set
	plain   []byte
	err     error
	encoded map[string]func() []byte // by the encodings of acceptedEncoding

	// Guarded by mu of Page:
	scrapes map[*http.ResponseController]bool
	at      time.Time // when it was made
}

func newPage() *page {
	p := &page{ready: make(chan struct{}), scrapes: map[*http.ResponseController]bool{}}
	p.encoded = map[string]func() []byte{
		"":     func() []byte { return p.plain },
		"gzip": sync.OnceValue(func() []byte { return compressGzip(p.plain) }),
		"zstd": sync.OnceValue(func() []byte { return compressZstd(p.plain) }),
	}
	return p
}

func compressGzip(plain []byte) []byte {
	var b bytes.Buffer
	w, _ := gzip.NewWriterLevel(&b, gzip.BestSpeed) // fails for wrong levels
	_, _ = w.Write(plain)                           // fails if the buffer does
	_ = w.Close()
	return b.Bytes()
}

func compressZstd(plain []byte) []byte {
	w, _ := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1)) // fails for wrong options
	defer w.Close()
	return w.EncodeAll(plain, nil)
}

// acceptedEncoding returns the best encoding that the client accepts: "zstd", "gzip", or "" for none. The weight 0 means not acceptable
// (RFC 9110, section 12.5.3).
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
