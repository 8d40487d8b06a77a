package check

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestMetricsAddress(t *testing.T) {
	serve := func(start func(*httptest.Server), status int, page string) string {
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(status)
			io.WriteString(w, page)
		}))
		s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
		start(s)
		t.Cleanup(s.Close)
		return s.Listener.Addr().String()
	}
	const own = "promflow_build_info{goversion=\"go1.26\",version=\"0.1.0\"} 1\n"
	listen := func(answer func(net.Conn)) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				answer(c)
			}
		}()
		return l.Addr().String()
	}
	wantsCertificate := func(s *httptest.Server) {
		s.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
		s.StartTLS()
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free.Close()
	everywhere, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { everywhere.Close() })
	go http.Serve(everywhere, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, own) }))
	_, port, _ := net.SplitHostPort(everywhere.Addr().String())

	for _, c := range []struct {
		name, address string
		status        Status
		says          string
	}{
		{"free", free.Addr().String(), OK, "is free"},
		{"a promflow", serve((*httptest.Server).Start, 200, "go_goroutines 5\n"+own), OK, "a promflow answers there (version 0.1.0)"},
		{"a promflow with TLS", serve((*httptest.Server).StartTLS, 200, own), OK, "a promflow answers there"},
		{"a promflow on all addresses", ":" + port, OK, "a promflow answers there"},
		{"another exporter", serve((*httptest.Server).Start, 200, "node_cpu 1\n"), Error, "another program answers"},
		{"asks for a password", serve((*httptest.Server).Start, 401, ""), Warning, "with 401 Unauthorized"},
		{"forbids", serve((*httptest.Server).Start, 403, ""), Warning, "with 403 Forbidden"},
		{"asks for a certificate", serve(wantsCertificate, 200, own), Warning, "certificate required"},
		{"has none of it", serve((*httptest.Server).Start, 404, ""), Error, "with 404 Not Found"},
		{"no HTTP", listen(func(c net.Conn) { c.Close() }), Error, "does not speak HTTP"},
		{"silent", listen(func(c net.Conn) { t.Cleanup(func() { c.Close() }) }), Error, "does not answer within 3s"},
		{"not of this machine", "192.0.2.1:9088", Warning, "would wait for it"},
		{"no address", "9088", Error, "missing port"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, err := net.Listen("tcp", c.address)
			if err == nil {
				l.Close()
			}
			host, port, _ := net.SplitHostPort(c.address)
			f := addressFinding(context.Background(), Address{c.address, "tcp", net.JoinHostPort(cmp.Or(host, "localhost"), port), err})
			if f.Status != c.status || !strings.Contains(f.Summary, c.says) {
				t.Errorf("got %v: %s", f.Status, f.Summary)
			}
		})
	}
}

func TestCollector(t *testing.T) {
	for _, c := range []struct {
		name   string
		push   func(context.Context) (string, error)
		status Status
		says   string
	}{
		{"none", nil, OK, "would not push"},
		{"takes it", func(context.Context) (string, error) { return "c:4317", nil }, OK, "c:4317 takes pushes"},
		{"does not", func(context.Context) (string, error) {
			return "c:4317", errors.Join(errors.New("deadline"), errors.New("connecting to c:4317: refused"))
		}, Error, "c:4317 does not take a push; deadline; connecting to c:4317: refused"},
	} {
		f := collectorFinding(context.Background(), c.push)
		if text := f.Summary + "; " + strings.Join(f.Details, "; "); f.Status != c.status || !strings.Contains(text, c.says) {
			t.Errorf("%s: got %v: %s", c.name, f.Status, text)
		}
	}
}
