package app

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/klauspost/compress/zstd"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/urfave/cli/v2"
	"google.golang.org/grpc/test/bufconn"

	"promflow/app/web"
)

// FuzzSettings gives every setting the same text, by its flag and by its variable: both take it alike, or refuse it in one
// line that names the flag or the variable.
func FuzzSettings(f *testing.F) {
	for _, s := range []string{
		"", " ", "eth0", "true", "F", "maybe", "0", "1", "-1", "1073741824", "1073741825", "1e6", "+7", "0x10", "10s", "-1s", "1h2m3.5s", "0.1ns",
		"auto", "ebpf", "afpacket", "192.168.0.1/24", "10.0.0.0/8, fd00::1/64", "fe80::1%eth0", "10.0.0.0/33", "0.0.0.0/0,::/0", ":9088", "none",
		"prometheus,otlp", " Console ,none", ",", "grpc", "http/protobuf", "gzip", "delta", "DEBUG", "warn+1", "json", "a=b,c=d", "a b=c", "a=%",
		"https://collector", "a\nb", "a\x1b[31m", "é\xff", "--packets", "\u2028",
		"network,peer", "vlan, protocol", "lan=10.0.0.0/8,fd00::/8", "external=10.0.0.0/8", "/24", "/129", "64",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		given := func(text string, times int) (*config, settings, []error) {
			c := new(config)
			all := c.settings()
			errs := make([]error, len(all))
			for i, s := range all {
				for range times {
					if err := s.Set(text); err != nil {
						t.Errorf("--%s %q: %v", s.name, text, err)
					}
				}
				errs[i] = s.resolve()
			}
			c.all = nil // of which values are not to be compared
			return c, all, errs
		}
		first, all, errs := given(text, 1)
		for i, s := range all {
			if err := errs[i]; err != nil {
				checkSettingError(t, s, text, err)
			}
		}
		if again, _, _ := given(text, 2); !reflect.DeepEqual(first, again) {
			t.Errorf("%q gives %+v, and twice %+v", text, first, again)
		}
		const secret = "hunter2" // at the end of whatever it is
		_, all, secretErrs := given(text+secret, 1)
		for i, s := range all {
			if s.secret && secretErrs[i] != nil && strings.Contains(secretErrs[i].Error(), secret) {
				t.Errorf("--%s %q: %v", s.name, text+secret, secretErrs[i])
			}
		}

		if text == "" || strings.Contains(text, "\x00") {
			return // no variable
		}
		byVariables, all, _ := given("", 0)
		for i, s := range all {
			os.Setenv(s.variable(), text)
			err := s.resolve()
			os.Unsetenv(s.variable())
			want := errs[i]
			if want != nil {
				want = errors.New(s.variable() + strings.TrimPrefix(want.Error(), "--"+s.name))
			}
			if fmt.Sprint(err) != fmt.Sprint(want) {
				t.Errorf("%s %q: %v, want %v", s.variable(), text, err, want)
			}
		}
		if !reflect.DeepEqual(byVariables, first) {
			t.Errorf("%q gives %+v by variables, and %+v by flags", text, byVariables, first)
		}
	})
}

// checkSettingError checks what is said of a flag's value: one line that names the flag and shows the value, unless that is a
// secret.
func checkSettingError(t *testing.T, s *setting, text string, err error) {
	t.Helper()
	line := err.Error()
	if !strings.HasPrefix(line, "--"+s.name) || strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }) {
		t.Errorf("--%s %q: %q", s.name, text, line)
	}
	if !s.secret && !strings.HasPrefix(line, fmt.Sprintf("--%s %q: ", s.name, text)) {
		t.Errorf("--%s %q: %q does not show it", s.name, text, line)
	}
}

// FuzzCommandLine reads command lines, of an argument a line, up to where a command would begin its work. What is wrong is one
// error, and nothing is printed; else one command begins, or there is help.
func FuzzCommandLine(f *testing.F) {
	for _, s := range []string{
		"", "-h", "--help", "-v", "--version", "replay", "replay\n--help", "replay\n-", "--interface\nlo", "-interface=lo\n--packets",
		"--packets=false\nreplay\n--max-ips=7\na.pcap\nb.pcap", "--\nreplay", "replay\n--\n--packets", "record", "--nosuch", "--interface", "-",
		"---interface=a", "--=a", "-=", "--max-ips=x\n--max-ips=7", "--max-ips=x", "replay\n--interface=lo\na", "--help=false", "--help=x",
		"--promiscuous\nfalse", "--monitor-subnets=\n--exclude-subnets=", "help", "h", "--otlp-headers=a=hunter2,hunter2", "--interface=\x1b[31m\n", "--generate-bash-completion",
		"top", "top\nrouter", "--interface=lo\ntop\n--sort=ip", "top\n--count=x\n--count=7",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, lines string) {
		var printed bytes.Buffer
		begun := 0
		app := newApp()
		app.Writer, app.ErrWriter = &printed, &printed
		actions := []*cli.ActionFunc{&app.Action}
		flags := [][]cli.Flag{app.Flags}
		for _, command := range app.Commands {
			actions, flags = append(actions, &command.Action), append(flags, command.Flags)
		}
		for i, action := range actions {
			var all settings
			for _, each := range flags[i] {
				all = append(all, each.(*setting))
			}
			*action = func(*cli.Context) error {
				begun++
				return all.resolve()
			}
		}
		err := app.Run(append([]string{"promflow"}, strings.Split(lines, "\n")...))
		if begun > 1 {
			t.Errorf("%q: %d commands began", lines, begun)
		}
		if err != nil && (printed.Len() > 0 || oneLine(err) == "" || strings.Contains(oneLine(err), "\n")) {
			t.Errorf("%q: %v, and printed %s", lines, err, &printed)
		}
		if err == nil && (begun == 0) != strings.HasPrefix(printed.String(), "promflow ") {
			t.Errorf("%q: %d commands began, and it printed %s", lines, begun, &printed)
		}
	})
}

// FuzzExporters has exporters chosen by flags and variables: known ones, each once and in a place to go, or an error that names
// what is wrong.
func FuzzExporters(f *testing.F) {
	for _, s := range [][4]string{
		{"", "", "", ":9088"}, {"prometheus", "", "", "none"}, {"", "prometheus,otlp", "", "none"}, {"none", "otlp", "false", ":9088"},
		{"", "none", "", ":9088"}, {"otlp,OTLP, console", "x", "TRUE ", "none"}, {"", "none,prometheus,none", "maybe", ":9088"}, {"", ",", "", "none"},
	} {
		f.Add(s[0], s[1], s[2], s[3], "")
		f.Add(s[0], s[1], s[2], s[3], "collector")
	}
	log := slog.New(slog.DiscardHandler)
	f.Fuzz(func(t *testing.T, flag, list, disabled, address, endpoint string) {
		for name, value := range map[string]string{"OTEL_METRICS_EXPORTER": list, "OTEL_SDK_DISABLED": disabled} {
			if os.Setenv(name, value) != nil {
				os.Unsetenv(name)
			}
			defer os.Unsetenv(name)
		}
		c := new(config)
		all := c.settings()
		given := map[string]string{"exporters": flag, "metrics-address": address, "otlp-endpoint": endpoint}
		for name, value := range given {
			if value != "" {
				all.named(name)[0].Set(value)
			}
		}
		if all.resolve() != nil {
			return
		}
		chosen, err := chooseExporters(c, log)
		if err != nil {
			if chosen != nil || c.metricsAddress != web.None || !strings.Contains(err.Error(), "--metrics-address none") {
				t.Errorf("%q, %q: %q, %v", given, list, chosen, err)
			}
			return
		}
		for i, name := range chosen {
			if !slices.Contains(exporterNames(), name) || slices.Contains(chosen[:i], name) || name == "prometheus" && c.metricsAddress == web.None {
				t.Errorf("%q, %q: %q", given, list, chosen)
			}
		}
		if off := strings.EqualFold(strings.TrimSpace(os.Getenv("OTEL_SDK_DISABLED")), "true"); off && len(chosen) > 0 ||
			!off && flag != "" && c.metricsAddress != web.None && !slices.Equal(chosen, c.exporters) {
			t.Errorf("%q, %q, disabled is %q: %q", given, list, disabled, chosen)
		}
	})
}

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
		c := new(config)
		c.settings()
		c.metricsAddress, c.webConfigFile = "127.0.0.1:0", path
		if err := c.web().Check(); err != nil {
			if line := oneLine(err); !strings.HasPrefix(line, fmt.Sprintf("--web-config-file %q: ", path)) {
				t.Errorf("%q: %s", content, line)
			}
			return
		}
		pipe := bufconn.Listen(1 << 16) // leaves no ports behind
		server := web.New(c.web(), pipe, http.NotFoundHandler(), http.NotFoundHandler(), log)
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
