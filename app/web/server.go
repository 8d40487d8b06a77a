// Package web serves HTTP: the metrics page, the live page and what it asks, health. It bounds what slow clients can hold.
package web

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/common/version"
	toolkit "github.com/prometheus/exporter-toolkit/web"

	"promflow/app/web/ui"
	"promflow/telemetry/talkers"
)

// Config is what a server is told.
type Config struct {
	Address      string // HOST:PORT, or None
	AddressFrom  string // the flag or variable that says so, for messages
	AddressAsked bool   // it was given, and is not the default
	File         string // of exporter-toolkit, for TLS and passwords; may be empty
	FileFrom     string // as AddressFrom
	NoUI         bool   // a page that leads to the metrics takes the live page's place
}

// None as an address means that nothing is served.
const None = "none"

// Check reads the configuration file and the files that it names, as each connection does. It reads nothing if nothing is served.
func (c Config) Check() error {
	if c.Address == None {
		return nil
	}
	if err := toolkit.Validate(c.File); err != nil {
		return fmt.Errorf("%s %q: %w", c.FileFrom, c.File, err)
	}
	return nil
}

// drainTimeout is how long requests that are under way may take at the end.
const drainTimeout = time.Second

// Server serves on a listener.
type Server struct {
	http     *http.Server
	listener net.Listener // nil: there is none
	config   Config
	log      *slog.Logger
}

// New returns a server for what Listen has bound, which is the server's from then on. metrics is the page for Prometheus, and talking
// answers below [talkers.Path].
func New(c Config, listener net.Listener, metrics, talking http.Handler, log *slog.Logger) *Server {
	s := &Server{
		http: &http.Server{
			Handler: whileRead(c.routes(metrics, talking), stallTimeout),
			// Slow clients are cut off while they ask and while they idle, and whileRead those that do not read. No timeout
			// is for a whole answer: a page with a hundred thousand lines takes its time.
			ReadHeaderTimeout: 10 * time.Second,
			IdleTimeout:       2 * time.Minute,
			MaxHeaderBytes:    64 << 10,
			ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug), // what clients do wrong
		},
		listener: listener,
		config:   c,
		log:      log,
	}
	newConnections(maxConnections).limit(s.http)
	return s
}

// routes says who answers what.
func (c Config) routes(metrics, talking http.Handler) http.Handler {
	ok := func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "OK") }
	mux := http.NewServeMux()
	mux.Handle("/metrics", metrics)
	mux.HandleFunc("/-/healthy", ok)
	mux.HandleFunc("/-/ready", ok)
	if c.NoUI {
		mux.Handle("/", landing())
		return mux
	}
	mux.Handle("GET "+talkers.Path, talking)
	mux.HandleFunc(talkers.Path, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "expected GET", http.StatusMethodNotAllowed)
	})
	mux.Handle("/", ui.Handler())
	return mux
}

// landing is the page that leads to the others.
func landing() http.Handler {
	page, err := toolkit.NewLandingPage(toolkit.LandingConfig{
		Name:        "promflow",
		Description: "Counts the bytes that every IP address moves through a network interface",
		Version:     version.Version,
		Profiling:   "false",
		Links: []toolkit.LandingLinks{
			{Address: "/metrics", Text: "Metrics", Description: "for Prometheus to scrape"},
			{Address: "/-/healthy", Text: "Health"},
			{Address: "/-/ready", Text: "Readiness"},
		},
	})
	if err != nil {
		panic(err) // the template is the library's, and nothing that goes into it is from outside
	}
	return page
}

// stallTimeout is how long a client may leave what is sent to it unread.
const stallTimeout = 30 * time.Second

// bodyTimeout is how long the body of a request may take, which nobody reads.
const bodyTimeout = time.Second

// whileRead gives each write of an answer a deadline of its own: a client that reads, however slowly, is served to the end. Requests
// with a body are refused: before anything is written the whole of it is read, however slowly it comes, and an answer that waits for
// that would keep others waiting.
func whileRead(h http.Handler, stall time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		if err := control.SetWriteDeadline(time.Time{}); err != nil { // that of an earlier answer
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		if r.ContentLength != 0 {
			w.Header().Set("Connection", "close")
			_ = control.SetReadDeadline(time.Now().Add(bodyTimeout)) // an error is the connection's, which is gone then
			http.Error(w, "a request has no body here", http.StatusRequestEntityTooLarge)
			return
		}
		h.ServeHTTP(&deadlineWriter{ResponseWriter: w, control: control, stall: stall}, r)
	})
}

type deadlineWriter struct {
	http.ResponseWriter
	control *http.ResponseController
	stall   time.Duration

	mu    sync.Mutex
	fixed bool // the deadline is the handler's
}

func (w *deadlineWriter) Write(b []byte) (int, error) {
	if err := w.extend(); err != nil {
		return 0, err
	}
	return w.ResponseWriter.Write(b)
}

func (w *deadlineWriter) extend() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fixed {
		return nil
	}
	return w.control.SetWriteDeadline(time.Now().Add(w.stall))
}

// SetWriteDeadline is for http.ResponseController: a deadline that the handler sets is for all writes that follow, or go on.
func (w *deadlineWriter) SetWriteDeadline(deadline time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fixed = true
	return w.control.SetWriteDeadline(deadline)
}

// Unwrap is for http.ResponseController.
func (w *deadlineWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Port is the one that was bound, which the address may have left open, or the path of a Unix socket; empty without a listener.
func (s *Server) Port() string {
	if s.listener == nil {
		return ""
	}
	if tcp, ok := s.listener.Addr().(*net.TCPAddr); ok {
		return strconv.Itoa(tcp.Port)
	}
	return s.listener.Addr().String()
}

// ServeHTTP answers one request, as Serve does.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.http.Handler.ServeHTTP(w, r) }

// Serve serves until Close, and returns an error if it cannot.
func (s *Server) Serve() error {
	if s.listener == nil {
		return nil
	}
	config := &toolkit.FlagConfig{WebConfigFile: &s.config.File}
	if err := toolkit.Serve(s.listener, s.http, config, s.log); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving on %s: %w", s.listener.Addr(), err)
	}
	return nil
}

// Close lets requests that are under way end, for a moment. It may be called more than once.
func (s *Server) Close() error {
	if s.listener == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	if err := s.http.Shutdown(ctx); err != nil {
		s.http.Close()
	}
	if err := s.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}
