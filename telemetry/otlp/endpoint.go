package otlp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// endpoint is where OTLP is pushed to.
type endpoint struct {
	given  string   // as it was given, without a password
	host   string   // without port and brackets; empty for a Unix socket
	target string   // as gRPC dials it: dns:///host:port or unix:///path
	url    *url.URL // as HTTP has it, nil for gRPC
	tls    bool
}

const noUserInfo = "user information is not supported; send a header"

// parseEndpoint reads a collector's address for a protocol:
//
//	host, host:port, 127.0.0.1:4317, [::1]:4317   plaintext, or TLS where insecure is false
//	http://host, http://host:port                 plaintext
//	https://host, https://host:port               TLS
//	unix:///path                                  plaintext, with gRPC only
//
// The port is by default 4317 with gRPC and 4318 with HTTP, and 443 after https://. With HTTP a path may follow.
//
// insecure may be nil; it must not contradict the scheme.
//
// The SDK is not up to this: it takes 127.0.0.1:4317 for a malformed URL and goes to localhost:4317 after a log line, takes
// localhost:4317 for a URL whose scheme is "localhost" and speaks TLS, and with http:// it speaks TLS too once
// OTEL_EXPORTER_OTLP_CERTIFICATE is set (otlpmetricgrpc/internal/oconf).
func parseEndpoint(value, protocol string, insecure *bool) (endpoint, error) {
	fail := func(format string, args ...any) (endpoint, error) {
		return endpoint{}, fmt.Errorf("OTLP endpoint %q: "+format, append([]any{value}, args...)...)
	}
	bare := !strings.Contains(value, "://")
	text := value
	if bare {
		if addr, err := netip.ParseAddr(value); err == nil && addr.Is6() {
			text = "[" + strings.Replace(value, "%", "%25", 1) + "]" // the zone, as a URL has it
		}
		text = "//" + text
	}
	u, err := url.Parse(text)
	// What is before an @ may be a password, also where it has put the scheme out of place: user:password@http://host.
	if at := strings.LastIndex(value, "@"); at >= 0 && (err != nil || u.Opaque != "") {
		value = "..." + value[at:]
		return fail("%s", noUserInfo)
	}
	if err != nil {
		var reason *url.Error
		if errors.As(err, &reason) {
			err = reason.Err
		}
		return fail("%w", err)
	}
	if u.User != nil {
		value = u.Redacted()
		return fail("%s", noUserInfo)
	}

	e := endpoint{given: value, host: u.Hostname()}
	overHTTP, port := protocol == HTTPProtobuf, "4317"
	if overHTTP {
		port = "4318"
	}
	switch u.Scheme {
	case "":
		e.tls = insecure != nil && !*insecure
	case "http":
		if insecure != nil && !*insecure {
			return fail("http:// means plaintext, but insecure is set to false; use https://")
		}
	case "https":
		if insecure != nil && *insecure {
			return fail("https:// means TLS, but insecure is set to true; use http:// for plaintext")
		}
		port, e.tls = "443", true
	case "unix":
		if overHTTP {
			return fail("a Unix socket is for OTLP over grpc, not over %s", protocol)
		}
		if insecure != nil && !*insecure {
			return fail("a Unix socket has no TLS, but insecure is set to false")
		}
		if u.Host != "" || u.RawQuery != "" || u.Fragment != "" || len(u.Path) < 2 {
			return fail("expected unix:///path")
		}
		e.target = u.String()
		return e, nil
	default:
		return fail("scheme %q is not supported; expected host:port, http://host:port or https://host:port", u.Scheme)
	}
	switch {
	case u.Path != "" && u.Path != "/" && !overHTTP:
		return fail("OTLP over gRPC takes no path, this has %q; is it for http/protobuf?", u.Path)
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.Contains(value, "#"):
		return fail("OTLP takes no query and no fragment")
	case e.host == "":
		return fail("the host is missing")
	case !validHost(e.host):
		return fail("%q is neither a host name nor an IP address", e.host)
	}
	if strings.HasSuffix(u.Host, ":") {
		return fail("the port is missing after the colon")
	}
	if u.Port() != "" {
		port = u.Port()
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return fail("port %s is not in 1..65535", port)
		}
	}
	if overHTTP {
		scheme := "http"
		if e.tls {
			scheme = "https"
		}
		e.url = &url.URL{Scheme: scheme, Host: net.JoinHostPort(e.host, port), Path: u.Path}
		return e, nil
	}
	e.target = "dns:///" + strings.Replace(net.JoinHostPort(e.host, port), "%", "%25", 1)
	return e, nil
}

// String gives the endpoint for messages.
func (e endpoint) String() string { return e.given }

// signalPath is where metrics go below an endpoint for all signals
// (https://opentelemetry.io/docs/specs/otlp/#otlphttp-request).
const signalPath = "/v1/metrics"

// addSignal turns the address of all signals into that of metrics, unless it is one already.
func (e *endpoint) addSignal() {
	if !strings.HasSuffix(e.url.Path, signalPath) {
		e.url.Path = strings.TrimSuffix(e.url.Path, "/") + signalPath
	}
}

// validHost reports whether host is an IP address or made of the letters of host names, as a zone has to be, too. Container
// names may have underscores.
func validHost(host string) bool {
	if addr, err := netip.ParseAddr(host); err == nil {
		host = addr.Zone()
	}
	return strings.Trim(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == ""
}

// loopback reports whether what is sent to e stays on this machine.
func (e endpoint) loopback() bool {
	addr, err := netip.ParseAddr(e.host)
	return e.host == "" || e.host == "localhost" || err == nil && addr.IsLoopback()
}
