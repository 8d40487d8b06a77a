package otlp

import (
	"log/slog"
	"net"
	"net/url"
	"strings"
	"testing"
)

func TestParseEndpoint(t *testing.T) {
	yes, no := true, false
	// Where an endpoint leads by each protocol; empty: an error.
	for _, c := range []struct {
		value      string
		insecure   *bool
		host       string
		grpc, http string
	}{
		{"collector", nil, "collector", "dns:///collector:4317", "http://collector:4318"},
		{"collector:55", nil, "collector", "dns:///collector:55", "http://collector:55"},
		{"localhost:4317", nil, "localhost", "dns:///localhost:4317", "http://localhost:4317"},
		{"localhost:4317/", nil, "localhost", "dns:///localhost:4317", "http://localhost:4317/"},
		{"127.0.0.1:4317", nil, "127.0.0.1", "dns:///127.0.0.1:4317", "http://127.0.0.1:4317"},
		{"127.0.0.1", &yes, "127.0.0.1", "dns:///127.0.0.1:4317", "http://127.0.0.1:4318"},
		{"[::1]:4317", nil, "::1", "dns:///[::1]:4317", "http://[::1]:4317"},
		{"[::1]", nil, "::1", "dns:///[::1]:4317", "http://[::1]:4318"},
		{"::1", nil, "::1", "dns:///[::1]:4317", "http://[::1]:4318"},
		{"fe80::1%eth0", nil, "fe80::1%eth0", "dns:///[fe80::1%25eth0]:4317", "http://[fe80::1%25eth0]:4318"},
		{"my_app-1.svc:1", nil, "my_app-1.svc", "dns:///my_app-1.svc:1", "http://my_app-1.svc:1"},
		{"unix:4317", nil, "unix", "dns:///unix:4317", "http://unix:4317"},
		{"collector", &no, "collector", "TLS dns:///collector:4317", "https://collector:4318"},
		{"http://collector", nil, "collector", "dns:///collector:4317", "http://collector:4318"},
		{"http://collector:80/", &yes, "collector", "dns:///collector:80", "http://collector:80/"},
		{"HTTP://collector", nil, "collector", "dns:///collector:4317", "http://collector:4318"},
		{"http://[2001:db8::1]:80", nil, "2001:db8::1", "dns:///[2001:db8::1]:80", "http://[2001:db8::1]:80"},
		{"https://collector", nil, "collector", "TLS dns:///collector:443", "https://collector:443"},
		{"https://collector:4317", &no, "collector", "TLS dns:///collector:4317", "https://collector:4317"},
		{"unix:///run/otel.sock", nil, "", "unix:///run/otel.sock", ""},
		{"http://collector/v1/metrics", nil, "collector", "", "http://collector:4318/v1/metrics"},
		{"https://collector/api/v1/otlp/", nil, "collector", "", "https://collector:443/api/v1/otlp/"},
		{"collector/otlp", nil, "collector", "", "http://collector:4318/otlp"},
		{"collector:55/otlp", &no, "collector", "", "https://collector:55/otlp"},

		{value: "https://collector", insecure: &yes},
		{value: "http://collector", insecure: &no},
		{value: "unix:///run/otel.sock", insecure: &no},
		{value: "unix://run/otel.sock"},
		{value: "unix:///"},
		{value: "ftp://collector"},
		{value: "grpc://collector"},
		{value: "://collector"},
		{value: "http://collector?a=b"},
		{value: "http://collector?"},
		{value: "http://collector/v1/metrics?a=b"},
		{value: "http://collector#"},
		{value: "http://collector/otlp#x"},
		{value: "http://user:secret@collector"},
		{value: "http://user:secret@collector:port"},
		{value: "http://user:secret%zz@collector"},
		{value: "user:secret@collector"},
		{value: "user:secret@http://collector"},
		{value: "http://collector/?token=secret"},
		{value: "collector:99999?token=secret"},
		{value: "ftp://collector#secret"},
		{value: "user@collector"},
		{value: "http://user:x@collector/?token=secret"},
		{value: "http://collector/?token=abc@secret"},
		{value: "http://collector:1/#a@secret"},
		{value: "http://user:secret"},
		{value: "user:secret:4317"},
		{value: "http://user:secret:4317/x"},
		{value: "user:secret/"},
		{value: "https://user:secret?a"},
		{value: ""},
		{value: "http://"},
		{value: "http://:4317"},
		{value: "http:///otlp"},
		{value: ":4317"},
		{value: "collector:"},
		{value: "collector:0"},
		{value: "collector:65536"},
		{value: "collector:port"},
		{value: "collector:-1"},
		{value: "a b"},
		{value: "a,b"},
		{value: "http://a,b"},
		{value: "[::1"},
		{value: "::1:4317:x"},
		{value: "http://::1"},
		{value: "%zz"},
		{value: "a\nb"},
		{value: "fe80::1%\xff"},
	} {
		for protocol, want := range map[string]string{GRPC: c.grpc, HTTPProtobuf: c.http} {
			e, err := parseEndpoint(c.value, protocol, c.insecure)
			got := ""
			switch {
			case err != nil:
			case protocol == HTTPProtobuf:
				got = e.url()
			case e.tls:
				got = "TLS " + e.target()
			default:
				got = e.target()
			}
			if got != want || (err != nil) != (want == "") {
				t.Errorf("%q by %s: got %q, %v; want %q", c.value, protocol, got, err, want)
			}
			if err == nil && (e.host != c.host || e.String() != c.value) {
				t.Errorf("%q by %s: host is %q, shown as %q; want host %q", c.value, protocol, e.host, e, c.host)
			}
			if err != nil && (e != endpoint{} || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "\n")) {
				t.Errorf("%q by %s: bad error %+v, %q", c.value, protocol, e, err)
			}
		}
	}
}

// TestProtocolFollowsThePort has endpoints with and without a protocol, of flags and of variables.
func TestProtocolFollowsThePort(t *testing.T) {
	const all, metrics = "OTEL_EXPORTER_OTLP_", "OTEL_EXPORTER_OTLP_METRICS_"
	type set map[string]string
	for _, c := range []struct {
		o    Config
		env  set
		want string // gRPC's target, or the URL
	}{
		{Config{}, nil, "dns:///localhost:4317"},
		{Config{Endpoint: "a"}, nil, "dns:///a:4317"},
		{Config{Endpoint: "a:4317"}, nil, "dns:///a:4317"},
		{Config{Endpoint: "a:4319"}, nil, "dns:///a:4319"},
		{Config{Endpoint: "a.4318:443"}, nil, "dns:///a.4318:443"},
		{Config{Endpoint: "2001:db8::4318"}, nil, "dns:///[2001:db8::4318]:4317"},
		{Config{Endpoint: "unix:///run/a:4318"}, nil, "unix:///run/a:4318"},
		{Config{Endpoint: "a:4318"}, nil, "http://a:4318/v1/metrics"},
		{Config{Endpoint: " a:4318 "}, nil, "http://a:4318/v1/metrics"},
		{Config{Endpoint: "[::1]:4318"}, nil, "http://[::1]:4318/v1/metrics"},
		{Config{Endpoint: "http://a:4318"}, nil, "http://a:4318/v1/metrics"},
		{Config{Endpoint: "https://a:4318/b"}, nil, "https://a:4318/b/v1/metrics"},
		{Config{Endpoint: "a:4318", Protocol: GRPC}, nil, "dns:///a:4318"},
		{Config{Endpoint: "a:4317", Protocol: HTTPProtobuf}, nil, "http://a:4317/v1/metrics"},
		{Config{Endpoint: "a:4318"}, set{all + "PROTOCOL": "grpc"}, "dns:///a:4318"},
		{Config{Endpoint: "a:4318"}, set{metrics + "PROTOCOL": "grpc", all + "PROTOCOL": "http/protobuf"}, "dns:///a:4318"},
		{Config{Endpoint: "a:4317"}, set{all + "PROTOCOL": "http/protobuf"}, "http://a:4317/v1/metrics"},
		{Config{Endpoint: "a:4318"}, set{all + "PROTOCOL": "http/json"}, "http://a:4318/v1/metrics"}, // which is ignored
		{Config{Endpoint: "a:4317"}, set{all + "ENDPOINT": "http://b:4318"}, "dns:///a:4317"},
		{Config{}, set{all + "ENDPOINT": "http://a:4318"}, "http://a:4318/v1/metrics"},
		{Config{}, set{all + "ENDPOINT": "http://a:4317"}, "dns:///a:4317"},
		{Config{}, set{all + "ENDPOINT": "http://a:4318", all + "PROTOCOL": "grpc"}, "dns:///a:4318"},
		{Config{Protocol: GRPC}, set{all + "ENDPOINT": "http://a:4318"}, "dns:///a:4318"},
		{Config{}, set{metrics + "ENDPOINT": "http://a:4318/m", all + "ENDPOINT": "http://b:4317"}, "http://a:4318/m"},
		{Config{}, set{metrics + "ENDPOINT": "http://a:4317", all + "ENDPOINT": "http://b:4318"}, "dns:///a:4317"},
	} {
		t.Run("", func(t *testing.T) {
			for name, value := range c.env {
				t.Setenv(name, value)
			}
			r, err := c.o.resolve(slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatalf("%+v: %v", c, err)
			}
			got := r.endpoint.target()
			if r.Protocol == HTTPProtobuf {
				got = r.endpoint.url()
			}
			if got != c.want {
				t.Errorf("%+v: got %s", c, got)
			}
		})
	}
}

func TestEndpointIsThisMachine(t *testing.T) {
	for value, want := range map[string]bool{
		"localhost": true, "127.0.0.1:1": true, "https://[::1]": true, "127.8.8.8": true, "unix:///run/otel.sock": true,
		"collector": false, "192.0.2.1": false, "localhost.example": false, "[2001:db8::1]:1": false,
	} {
		if e, err := parseEndpoint(value, GRPC, nil); err != nil || e.loopback() != want {
			t.Errorf("%s: got %v, %v", value, e.loopback(), err)
		}
	}
}

func TestMasked(t *testing.T) {
	for _, value := range []string{"collector", "collector:4317", "http://collector:4318/a:b", "unix:///run/a:b", "::1", "[::1]:1", "http://[::1]", "[fe80::a]", "http://[fe80::a]/x", "[fe80::a]:1", "fe80::a", "fe80::1%eth0", "://", ""} {
		if got := masked(value); got != value {
			t.Errorf("%q is %q", value, got)
		}
	}
	for value, want := range map[string]string{
		"http://a/b?c": "http://a/b?...", "a:1#b": "a:1#...", "a@b": "...", "http://a:b": "http://a:...", "a:b/c": "a:...", "a:b:1": "...", "http://a:b:1/x": "...",
	} {
		if got := masked(value); got != want {
			t.Errorf("%q is %q, want %q", value, got, want)
		}
	}
}

func FuzzParseEndpoint(f *testing.F) {
	for _, s := range []string{"a:1", "http://a", "https://[::1]:2/", "unix:///a", "fe80::1%eth0", "x://", "[%25]", "a/b%20c", "http://a/../%2f", "fe80::1%0\xff"} {
		f.Add(s, false)
		f.Add(s, true)
	}
	f.Fuzz(func(t *testing.T, s string, overHTTP bool) {
		protocol := GRPC
		if overHTTP {
			protocol = HTTPProtobuf
		}
		for _, value := range []string{"u:secret@" + s, "http://u:secret@" + s} {
			if e, err := parseEndpoint(value, protocol, nil); err == nil || strings.Contains(strings.ReplaceAll(err.Error(), s, ""), "secret") {
				t.Errorf("%q: %+v, %v", value, e, err)
			}
		}
		e, err := parseEndpoint(s, protocol, nil)
		if err != nil {
			if e != (endpoint{}) || strings.Contains(err.Error(), "\n") {
				t.Fatalf("%q: %+v, %q", s, e, err)
			}
			return
		}
		if len(e.path) > 1 && !overHTTP || e.host == "" && overHTTP {
			t.Fatalf("%q by %s: %+v", s, protocol, e)
		}
		if follows := protocolsFor(s)[0] == HTTPProtobuf; !overHTTP && e.host != "" && follows != strings.HasSuffix(e.address, ":4318") {
			t.Fatalf("%q, which is %s, goes by %s", s, e.address, protocolsFor(s)[0])
		}
		var address string
		if overHTTP {
			u, err := url.Parse(e.url()) // as the SDK does
			if err != nil || u.Path != e.path || (u.Scheme == "https") != e.tls || u.RawQuery != "" || u.User != nil {
				t.Fatalf("%q: %+v: %+v, %v", s, e, u, err)
			}
			address = u.Host
			e.addSignal()
			once := e.path
			if e.addSignal(); e.path != once || !strings.HasSuffix(once, "/v1/metrics") {
				t.Fatalf("%q: path %q, then %q", s, once, e.path)
			}
		} else {
			u, err := url.Parse(e.target()) // as gRPC does
			if err != nil {
				t.Fatalf("%q: target %q: %v", s, e.target(), err)
			}
			if u.Scheme == "unix" {
				return
			}
			if u.Host != "" {
				t.Fatalf("%q: target %q has an authority", s, e.target())
			}
			address = strings.TrimPrefix(u.Path, "/")
		}
		host, port, err := net.SplitHostPort(address)
		if err != nil || host != e.host || host == "" || port == "" {
			t.Fatalf("%q: %+v: %v", s, e, err)
		}
	})
}
