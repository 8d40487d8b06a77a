package app

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
	"github.com/prometheus/exporter-toolkit/web"

	"promflow/app/ui"
	"promflow/telemetry/talkers"
)

// server is the HTTP listener: the metrics page, health, and the live page or, without it, one that leads there.
type server struct {
	http     *http.Server
	listener net.Listener
	config   *web.FlagConfig
	log      *slog.Logger
}

// noListener as an address means that there is none.
const noListener = "none"

// newServer binds the listener, so that a port that is taken is an error before anything else begins. With noListener the
// server is one that does nothing.
func newServer(c *config, metrics, talking http.Handler, log *slog.Logger) (*server, error) {
	if c.metricsAddress == noListener {
		return &server{}, nil
	}
	if err := c.checkWebConfig(); err != nil {
		return nil, err
	}
	routes, err := c.routes(metrics, talking)
	if err != nil {
		return nil, err
	}
	listener, err := c.openListener()
	if err != nil {
		return nil, err
	}
	s := &server{
		http: &http.Server{
			Handler: whileRead(routes, stallTimeout),
			// Slow clients are cut off while they ask and while they idle, and whileRead those that do not read. No timeout
			// is for a whole answer: a page with a hundred thousand lines takes its time.
			ReadHeaderTimeout: 10 * time.Second,
			IdleTimeout:       2 * time.Minute,
			MaxHeaderBytes:    64 << 10,
			ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug), // what clients do wrong
		},
		listener: listener,
		config:   &web.FlagConfig{WebConfigFile: &c.webConfigFile},
		log:      log,
	}
	newConnections(maxConnections).limit(s.http)
	return s, nil
}

// routes says who answers what.
func (c *config) routes(metrics, talking http.Handler) (http.Handler, error) {
	ok := func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "OK") }
	mux := http.NewServeMux()
	mux.Handle("/metrics", metrics)
	mux.HandleFunc("/-/healthy", ok)
	mux.HandleFunc("/-/ready", ok)
	if !c.noUI {
		mux.Handle("GET "+talkers.Path, talking)
		mux.HandleFunc(talkers.Path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "expected GET", http.StatusMethodNotAllowed)
		})
		mux.Handle("/", ui.Handler())
		return mux, nil
	}
	landing, err := web.NewLandingPage(web.LandingConfig{
		Name:        "promflow",
		Description: "Counts the bytes that every IP address moves through a network interface",
		Version:     version.Version,
		Profiling:   "false",
		Links: []web.LandingLinks{
			{Address: "/metrics", Text: "Metrics", Description: "for Prometheus to scrape"},
			{Address: "/-/healthy", Text: "Health"},
			{Address: "/-/ready", Text: "Readiness"},
		},
	})
	if err != nil {
		return nil, fmt.Errorf("landing page: %w", err)
	}
	mux.Handle("/", landing)
	return mux, nil
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

// port is the one that was bound, which the flag may have left open, or the path of a Unix socket.
func (s *server) port() string {
	if tcp, ok := s.listener.Addr().(*net.TCPAddr); ok {
		return strconv.Itoa(tcp.Port)
	}
	return s.listener.Addr().String()
}

// serve serves until close, and returns an error if it cannot.
func (s *server) serve() error {
	if s.listener == nil {
		return nil
	}
	if err := web.Serve(s.listener, s.http, s.config, s.log); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving on %s: %w", s.listener.Addr(), err)
	}
	return nil
}

// close lets scrapes that are under way end, for a moment.
func (s *server) close() error {
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
