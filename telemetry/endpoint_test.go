package telemetry

import (
	"net"
	"net/url"
	"strings"
	"testing"
)

func TestParseEndpoint(t *testing.T) {
	yes, no := true, false
	for _, c := range []struct {
		value    string
		insecure *bool
		want     endpoint // zero: an error
	}{
		{"collector", nil, endpoint{"dns:///collector:4317", "collector", false}},
		{"collector:55", nil, endpoint{"dns:///collector:55", "collector", false}},
		{"localhost:4317", nil, endpoint{"dns:///localhost:4317", "localhost", false}},
		{"localhost:4317/", nil, endpoint{"dns:///localhost:4317", "localhost", false}},
		{"127.0.0.1:4317", nil, endpoint{"dns:///127.0.0.1:4317", "127.0.0.1", false}},
		{"127.0.0.1", &yes, endpoint{"dns:///127.0.0.1:4317", "127.0.0.1", false}},
		{"[::1]:4317", nil, endpoint{"dns:///[::1]:4317", "::1", false}},
		{"[::1]", nil, endpoint{"dns:///[::1]:4317", "::1", false}},
		{"::1", nil, endpoint{"dns:///[::1]:4317", "::1", false}},
		{"fe80::1%eth0", nil, endpoint{"dns:///[fe80::1%25eth0]:4317", "fe80::1%eth0", false}},
		{"my_app-1.svc:1", nil, endpoint{"dns:///my_app-1.svc:1", "my_app-1.svc", false}},
		{"unix:4317", nil, endpoint{"dns:///unix:4317", "unix", false}},
		{"collector", &no, endpoint{"dns:///collector:4317", "collector", true}},
		{"http://collector", nil, endpoint{"dns:///collector:4317", "collector", false}},
		{"http://collector:80/", &yes, endpoint{"dns:///collector:80", "collector", false}},
		{"HTTP://collector", nil, endpoint{"dns:///collector:4317", "collector", false}},
		{"http://[2001:db8::1]:80", nil, endpoint{"dns:///[2001:db8::1]:80", "2001:db8::1", false}},
		{"https://collector", nil, endpoint{"dns:///collector:443", "collector", true}},
		{"https://collector:4317", &no, endpoint{"dns:///collector:4317", "collector", true}},
		{"unix:///run/otel.sock", nil, endpoint{"unix:///run/otel.sock", "", false}},

		{value: "https://collector", insecure: &yes},
		{value: "http://collector", insecure: &no},
		{value: "unix:///run/otel.sock", insecure: &no},
		{value: "unix://run/otel.sock"},
		{value: "unix:///"},
		{value: "ftp://collector"},
		{value: "grpc://collector"},
		{value: "://collector"},
		{value: "http://collector/v1/metrics"},
		{value: "collector/v1/metrics"},
		{value: "http://collector?a=b"},
		{value: "http://collector?"},
		{value: "http://collector#"},
		{value: "http://user:secret@collector"},
		{value: "user@collector"},
		{value: ""},
		{value: "http://"},
		{value: "http://:4317"},
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
	} {
		got, err := parseEndpoint(c.value, c.insecure)
		if got != c.want || (err != nil) != (c.want == endpoint{}) {
			t.Errorf("%q: got %+v, %v; want %+v", c.value, got, err, c.want)
		}
		if err != nil && (strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "\n")) {
			t.Errorf("%q: bad error text %q", c.value, err)
		}
	}
}

func FuzzParseEndpoint(f *testing.F) {
	for _, s := range []string{"a:1", "http://a", "https://[::1]:2/", "unix:///a", "fe80::1%eth0", "x://", "[%25]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		e, err := parseEndpoint(s, nil)
		if err != nil {
			if e != (endpoint{}) || strings.Contains(err.Error(), "\n") {
				t.Fatalf("%q: %+v, %q", s, e, err)
			}
			return
		}
		u, err := url.Parse(e.target) // as gRPC does
		if err != nil {
			t.Fatalf("%q: target %q: %v", s, e.target, err)
		}
		if u.Scheme == "unix" {
			return
		}
		host, port, err := net.SplitHostPort(strings.TrimPrefix(u.Path, "/"))
		if err != nil || host != e.host || host == "" || port == "" || u.Host != "" {
			t.Fatalf("%q: %+v: %v", s, e, err)
		}
	})
}
