package e2e

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"google.golang.org/grpc/test/bufconn"

	"promflow/app/web"
)

// FuzzWebConfigFile serves by the web configuration that it is given, if that is valid, and else has it refused by name.
func FuzzWebConfigFile(f *testing.F) {
	const hash = "$2y$04$ZAzZ0kf1Yoe9qiyjv5qCLeA4Zr5BpYh2nUCvFj8YySVsVYiOxHzMm"
	for _, s := range []string{
		"", "# nothing\n", "tls_server_config: {cert_file: server.crt, key_file: server.key}\n", "basic_auth_users: {ali: " + hash + "}\n",
		"tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n  min_version: TLS13\n  max_version: TLS12\n",
		"tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n  cipher_suites: [TLS_RSA_WITH_AES_128_CBC_SHA]\nhttp_server_config: {http2: false}\n",
		"tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: server.crt\n",
		"tls_server_config: {cert_file: nosuch.crt, key_file: server.key}\n", "tls_server_config: {client_auth_type: x}\n",
		"http_server_config:\n  http2: true\n  headers: {X-Frame-Options: deny, Content-Security-Policy: \"a\\nb\"}\n", "rate_limit: {burst: 1, interval: 1h}\n",
		"rate_limit: {burst: -1, interval: -1s}\n", "basic_auth_users: {ali: open sesame}\n", "tls_servers: 1\nbasic: 2\n", "a: &a [*a]\n",
		"a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n", "[[[[", "\t", "\xff\xfe", "---\n---\n", "basic_auth_users: {ali: $2y$31$" + hash[7:] + "}\n",
	} {
		f.Add(s)
	}
	dir := f.TempDir()
	certificate, key, _ := selfSigned(f)
	for from, to := range map[string]string{certificate: "server.crt", key: "server.key"} {
		if err := os.Rename(from, filepath.Join(dir, to)); err != nil {
			f.Fatal(err)
		}
	}
	path := filepath.Join(dir, "web.yml")
	log := slog.New(slog.DiscardHandler)
	f.Fuzz(func(t *testing.T, content string) {
		if strings.Contains(content, "/dev") || strings.Contains(content, "/proc") {
			return // what is read for ever
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		c := web.Config{Addresses: []web.Address{{Network: "tcp4", Address: "127.0.0.1:0"}}, File: path, FileFrom: "--web-config-file"}
		if err := c.Check(); err != nil {
			if line := err.Error(); !strings.HasPrefix(line, fmt.Sprintf("--web-config-file %q: ", path)) {
				t.Errorf("%q: %s", content, line)
			}
			return
		}
		pipe := bufconn.Listen(1 << 16) // leaves no ports behind
		server := web.New(c, pipe, http.NotFoundHandler(), nil, log)
		ended := make(chan error, 1)
		go func() {
			err := server.Serve()
			pipe.Close()
			ended <- err
		}()
		status, err := healthy(pipe)
		if closeErr := server.Close(); closeErr != nil && err == nil {
			t.Errorf("%q: %v", content, closeErr)
		}
		// Some of what is wrong only net/http finds out.
		if served := <-ended; (served == nil) != (err == nil) {
			t.Errorf("%q: status %d, %v, served with %v", content, status, err, served)
		}
		admitted := []int{http.StatusOK, http.StatusBadRequest, http.StatusUnauthorized, http.StatusTooManyRequests}
		if err == nil && !slices.Contains(admitted, status) {
			t.Errorf("%q: status %d", content, status)
		}
	})
}

// healthy asks a server whether it is, and gives the status of the answer, 400 if it speaks TLS.
func healthy(l *bufconn.Listener) (int, error) {
	client := http.Client{Timeout: deadline, Transport: &http.Transport{
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return l.DialContext(ctx) },
		DisableKeepAlives: true,
	}}
	response, err := client.Get("http://promflow/-/healthy")
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	return response.StatusCode, err
}

// FuzzRequest has the server answer HTTP requests as they come: with a whole page in the format and encoding that were asked for
// where it is the page's path, and else with no more than what the client did wrong.
func FuzzRequest(f *testing.F) {
	for _, s := range []string{
		"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n", "GET /metrics?name[]=x&%zz HTTP/1.0\r\n\r\n", "POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx",
		"GET /metrics HTTP/1.1\r\nHost: a\r\nAccept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\nAccept-Encoding: gzip\r\n\r\n",
		"GET /metrics HTTP/1.1\r\nHost: a\r\nAccept: application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;escaping=dots\r\nAccept-Encoding: zstd;q=1.0, gzip;q=0\r\n\r\n",
		"GET /metrics HTTP/1.1\r\nHost: a\r\nAccept: text/plain;version=1.0.0;escaping=allow-utf-8;q=x\r\nAccept-Encoding: identity;q=0, *\r\nAccept-Encoding: ZSTD\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET /-/healthy HTTP/1.1\r\nHost: a\r\n\r\n", "HEAD /metrics HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET //metrics/../metrics HTTP/1.1\r\nHost: a\r\n\r\n", "CONNECT /metrics HTTP/1.1\r\nHost: a\r\n\r\n", "GET http://b/metrics HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET /debug/pprof/ HTTP/1.1\r\nHost: a\r\n\r\n", "GET /%6detrics HTTP/1.1\r\nHost: a\r\nAccept: */*, ;, a/b;c\r\nAccept-Encoding: ,;q,gzip;q=NaN\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	handler := serverOfCounts(f, contractTraffic(), "")
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
		if err != nil {
			return
		}
		asked := strings.ToLower(strings.Join(r.Header.Values("Accept-Encoding"), ","))
		w := recorder{httptest.NewRecorder()}
		handler.ServeHTTP(w, r)
		got := w.Result()
		if r.URL.Path != "/metrics" || r.ContentLength != 0 { // a body is refused
			if got.StatusCode >= 500 || bytes.Contains(w.Body.Bytes(), []byte("promflow_tracked_ips")) {
				t.Errorf("%q: %s: %.200s", raw, got.Status, w.Body)
			}
			return
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			if got.StatusCode != http.StatusMethodNotAllowed {
				t.Errorf("%q: %s", raw, got.Status)
			}
			return
		}
		if got.StatusCode != http.StatusOK || got.Header.Get("Content-Length") != strconv.Itoa(w.Body.Len()) {
			t.Fatalf("%q: %s, %v: %.200s", raw, got.Status, got.Header, w.Body)
		}
		encoding := got.Header.Get("Content-Encoding")
		if !strings.Contains(asked, encoding) {
			t.Errorf("%q: the answer is encoded by %s", raw, encoding)
		}
		received, err := receivedByContractsHost(got.Header.Get("Content-Type"), unpacked(t, encoding, w.Body))
		if err != nil || received != 194179 {
			t.Errorf("%q: %v, %v in a page of type %s", raw, received, err, got.Header.Get("Content-Type"))
		}
	})
}

// recorder can do what a server's connection can.
type recorder struct{ *httptest.ResponseRecorder }

func (recorder) SetWriteDeadline(time.Time) error { return nil }

func unpacked(t *testing.T, encoding string, body io.Reader) []byte {
	t.Helper()
	switch encoding {
	case "gzip":
		z, err := gzip.NewReader(body)
		if err != nil {
			t.Fatal(err)
		}
		body = z
	case "zstd":
		z, err := zstd.NewReader(body, zstd.WithDecoderConcurrency(1))
		if err != nil {
			t.Fatal(err)
		}
		defer z.Close()
		body = z
	case "":
	default:
		t.Fatalf("encoding is %q", encoding)
	}
	b, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// receivedByContractsHost reads a whole page, and gives what the host of contractTraffic has received.
func receivedByContractsHost(contentType string, page []byte) (float64, error) {
	const name, host = "promflow_receive_bytes_total", "192.168.1.133"
	kind, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return 0, err
	}
	var family *dto.MetricFamily
	switch kind {
	case "text/plain":
		parser := expfmt.NewTextParser(model.UTF8Validation)
		families, err := parser.TextToMetricFamilies(bytes.NewReader(page))
		if err != nil {
			return 0, err
		}
		family = families[name]
	case "application/vnd.google.protobuf":
		for d := expfmt.NewDecoder(bytes.NewReader(page), expfmt.FmtProtoDelim); ; {
			each := new(dto.MetricFamily)
			if err := d.Decode(each); err == io.EOF {
				break
			} else if err != nil {
				return 0, err
			}
			if each.GetName() == name {
				family = each
			}
		}
	case "application/openmetrics-text": // which the package expfmt cannot read
		rest, found := strings.CutSuffix(string(page), "\n# EOF\n")
		_, line, _ := strings.Cut(rest, "\n"+name+`{ip="`+host+`"} `)
		line, _, _ = strings.Cut(line, "\n")
		if !found {
			return 0, io.ErrUnexpectedEOF
		}
		return strconv.ParseFloat(line, 64)
	}
	if len(family.GetMetric()) != 1 || len(family.Metric[0].Label) != 1 || family.Metric[0].Label[0].GetValue() != host {
		return 0, fmt.Errorf("%s is %v", name, family)
	}
	return family.Metric[0].GetCounter().GetValue(), nil
}
