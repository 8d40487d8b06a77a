// Package web serves the metrics page, the live page with its API, and health checks over HTTP. It bounds what clients take: see
// connections.go and answers.go, and README.md in the folder above.
//
// TLS and passwords are those of Prometheus' exporter-toolkit. passwords.go adds what the toolkit lacks when clients try passwords; it
// belongs there: to bound the logins that wait for bcrypt, to drop those of clients that have gone, to keep right logins in its cache
// whatever others try, and to refuse to serve once a file has lost its users.
package web

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/common/version"
	toolkit "github.com/prometheus/exporter-toolkit/web"

	"promflow/app/web/ui"
)

// Config is the configuration of a server.
type Config struct {
	Addresses    []Address               // none: nothing is served
	AddressFrom  string                  // the flag or variable of the addresses, for messages
	AddressAsked bool                    // the address is not just the default
	SocketMode   fs.FileMode             // of Unix sockets
	SocketOwner  func(path string) error // gives a Unix socket to the user that promflow becomes; may be nil
	File         string                  // of exporter-toolkit, for TLS and passwords; may be empty
	FileFrom     string                  // the flag or variable of the file, for messages
	NoUI         bool                    // serve a page of links instead of the live page
	Reload       func() error            // what POST /-/reload does; nil: it is refused
	Hosts        []string                // names of this server, besides those that it knows itself
}

// Check reads the configuration file and the files that it names, as each connection does. It reads nothing if nothing is served.
func (c Config) Check() error {
	if len(c.Addresses) == 0 {
		return nil
	}
	if err := toolkit.Validate(c.File); err != nil {
		return fmt.Errorf("%s %q: %w", c.FileFrom, c.File, err)
	}
	return nil
}

// minReceived is the least that HTTP/2 allows to send before the server has read it, in bytes (RFC 9113, section 6.9.2).
const minReceived = 1<<16 - 1

// drainTimeout is how long open requests may take when the server closes.
const drainTimeout = time.Second

// Server serves on a listener.
type Server struct {
	http     *http.Server
	listener net.Listener // nil: nothing is served
	config   Config
	log      *slog.Logger
	open     *connections
	routes   http.Handler
}

// API answers at one path.
type API struct {
	http.Handler
	Most int64 // how many answers it may give at a time
}

// New returns a server on the listener of Listen, which it will close. metrics is the page for Prometheus, and api has what
// answers below /api/, by path.
func New(c Config, listener net.Listener, metrics http.Handler, api map[string]API, log *slog.Logger) *Server {
	s := &Server{
		http: &http.Server{
			// These bound clients that send slowly or idle, and answers bounds those that do not read. No timeout bounds a whole
			// answer: a page of a hundred thousand lines takes long on a slow line.
			ReadHeaderTimeout: 10 * time.Second,
			IdleTimeout:       2 * time.Minute,
			MaxHeaderBytes:    8 << 10, // a field of 7 bytes takes 100 in Go
			HTTP2: &http.HTTP2Config{
				MaxConcurrentStreams: maxStreams, WriteByteTimeout: stallTimeout,
				MaxReceiveBufferPerConnection: minReceived, MaxReceiveBufferPerStream: minReceived, // of bodies, which are refused
			},
			ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug), // errors of clients
		},
		listener: listener,
		config:   c,
		log:      log,
		open:     newConnections(maxConnections),
		routes:   c.routes(metrics, api),
	}
	s.open.limit(s.http)
	return s
}

// follow bounds what clients take of a handler.
func (s *Server) follow(h http.Handler) http.Handler {
	return answers(s.open.follow(withoutBody(h)), stallTimeout)
}

// How many answers may be given at a time.
const (
	maxAnswers = 256
	maxFiles   = 64 // of the live page: each takes a buffer of 32 KiB
)

func (c Config) routes(metrics http.Handler, api map[string]API) http.Handler {
	ok := func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "OK") }
	pages := http.NewServeMux()
	pages.Handle("/metrics", readOnly(metrics))
	if c.NoUI {
		pages.Handle("/", landing())
	} else {
		reports := http.NewServeMux()
		for path, part := range api {
			reports.Handle(path, bounded(readOnly(part.Handler), part.Most))
		}
		pages.Handle("/api/", ownSite(reports, c.Hosts))
		pages.Handle("/", ownSite(bounded(ui.Handler(), maxFiles), c.Hosts))
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/-/healthy", ok) // also when there are too many clients: a service manager would end the program
	mux.HandleFunc("/-/ready", ok)
	mux.Handle("/-/reload", ownSite(http.NewCrossOriginProtection().Handler(http.HandlerFunc(c.reload)), c.Hosts))
	mux.Handle("/", bounded(pages, maxAnswers))
	return mux
}

// reload answers as Prometheus does (https://prometheus.io/docs/prometheus/latest/management_api/).
func (c Config) reload(w http.ResponseWriter, r *http.Request) {
	switch {
	case c.Reload == nil:
		http.Error(w, "reloading by HTTP is off (see --enable-lifecycle)", http.StatusForbidden)
	case r.Method != http.MethodPost && r.Method != http.MethodPut:
		w.Header().Set("Allow", "POST, PUT")
		http.Error(w, "expected POST", http.StatusMethodNotAllowed)
	default:
		if err := c.Reload(); err != nil {
			http.Error(w, "not reloaded: "+err.Error(), http.StatusInternalServerError)
		}
	}
}

// landing is a page with links to the others.
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
		panic(err) // the template and its input are constant
	}
	return page
}

// Port is the port of the first address, or the path of its Unix socket. It is empty if nothing is served.
func (s *Server) Port() string {
	if s.listener == nil {
		return ""
	}
	at := s.listener.Addr()
	if all, ok := at.(addrs); ok {
		at = all[0]
	}
	if tcp, ok := at.(*net.TCPAddr); ok {
		return strconv.Itoa(tcp.Port)
	}
	return at.String()
}

// ServeHTTP answers one request as Serve does, but without passwords.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.follow(s.routes).ServeHTTP(w, r)
}

// Serve serves until Close. It returns an error if it cannot.
func (s *Server) Serve() error {
	if s.listener == nil {
		return nil
	}
	s.http.Handler = s.routes
	check := func(toolkit http.Handler) http.Handler { return toolkit }
	if s.config.File != "" {
		p := newPasswords(s.config.File, s.log)
		if _, err := p.users(); err != nil { // from now on it is known whether there are some
			return fmt.Errorf("%s %q: %w", s.config.FileFrom, s.config.File, err)
		}
		s.http.Handler, check = p.require(s.routes), p.check
	}
	// toolkit.Serve puts its own handler before that one, and then has net/http call this function, before there is a connection.
	s.http.BaseContext = func(net.Listener) context.Context {
		s.http.Handler = s.follow(check(s.http.Handler))
		return context.Background()
	}
	config := &toolkit.FlagConfig{WebConfigFile: &s.config.File}
	if err := toolkit.Serve(s.listener, s.http, config, s.log); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving on %s: %w", s.listener.Addr(), err)
	}
	return nil
}

// Close stops serving, and waits up to drainTimeout for open requests. It may be called more than once.
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
