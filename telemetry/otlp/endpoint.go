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

// endpoint is the address of a collector.
type endpoint struct {
	given   string // as the user wrote it
	host    string // without port and brackets; empty for a Unix socket
	address string // host:port, or the path of the socket
	path    string // of the URL, for HTTP
	tls     bool
	forAll  bool // signals, of which each has a path of its own below path
}

// parseEndpoint parses a collector's address for a protocol:
//
//	host, host:port, 127.0.0.1:4317, [::1]:4317   plain text, or TLS if insecure is false
//	http://host, http://host:port                 plain text
//	https://host, https://host:port               TLS
//	unix:///path                                  plain text, only with gRPC
//
// The default port is 4317 with gRPC and 4318 with HTTP, and 443 after https://. With HTTP a path may follow.
//
// insecure may be nil, and must not contradict the scheme.
//
// The SDK's own parser cannot be used: it ignores 127.0.0.1:4317 as malformed and connects to localhost:4317, takes "localhost" in
// localhost:4317 for a scheme and speaks TLS, and speaks TLS for http:// if OTEL_EXPORTER_OTLP_CERTIFICATE is set
// (otlpmetricgrpc/internal/oconf).
func parseEndpoint(value, protocol string, insecure *bool) (endpoint, error) {
	fail := func(format string, args ...any) (endpoint, error) {
		return endpoint{}, fmt.Errorf("OTLP endpoint %q: "+format, append([]any{masked(value)}, args...)...)
	}
	u, err := parseURL(value)
	switch {
	case strings.Contains(value, "@"):
		return fail("user information is not supported; send a header")
	case masked(value) == "...":
		return fail("it is neither a host name nor an IP address")
	case strings.HasSuffix(masked(value), ":..."):
		return fail("the port is not a number") // the error would quote it
	case err != nil:
		return fail("%w", errors.Unwrap(err)) // without the URL
	}

	overHTTP, port := protocol == HTTPProtobuf, "4317"
	if overHTTP {
		port = "4318"
	}
	mustTLS, mustPlain := insecure != nil && !*insecure, insecure != nil && *insecure
	e := endpoint{given: masked(value), host: u.Hostname(), tls: u.Scheme == "" && mustTLS}
	switch {
	case u.Scheme == "https" && mustPlain:
		return fail("https:// means TLS, but insecure is set to true; use http:// for plain text")
	case u.Scheme == "https":
		port, e.tls = "443", true
	case u.Scheme == "http" && mustTLS:
		return fail("http:// means plain text, but insecure is set to false; use https://")
	case u.Scheme == "http", u.Scheme == "":
	case u.Scheme != "unix":
		return fail("scheme %q is not supported; expected host:port, http://host:port or https://host:port", u.Scheme)
	case overHTTP:
		return fail("a Unix socket is for OTLP over grpc, not over %s", protocol)
	case mustTLS:
		return fail("a Unix socket has no TLS, but insecure is set to false")
	case u.Host != "" || u.RawQuery != "" || u.Fragment != "" || len(u.Path) < 2:
		return fail("expected unix:///path")
	default:
		e.address = u.Path
		return e, nil
	}
	switch {
	case u.Path != "" && u.Path != "/" && !overHTTP:
		return fail("OTLP over gRPC has no path, but this has %q; is it for http/protobuf?", u.Path)
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.Contains(value, "#"):
		return fail("OTLP has no query and no fragment")
	case e.host == "":
		return fail("the host is missing")
	case !validHost(e.host):
		return fail("%q is neither a host name nor an IP address", e.host)
	case strings.HasSuffix(u.Host, ":"):
		return fail("the port is missing after the colon")
	case u.Port() != "":
		port = u.Port()
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return fail("port %s is not in 1..65535", port)
		}
	}
	e.address, e.path = net.JoinHostPort(e.host, port), u.Path
	return e, nil
}

// parseURL parses an endpoint, which may have no scheme.
func parseURL(value string) (*url.URL, error) {
	if strings.Contains(value, "://") {
		return url.Parse(value)
	}
	if addr, err := netip.ParseAddr(value); err == nil && addr.Is6() {
		value = "[" + strings.Replace(value, "%", "%25", 1) + "]" // URLs escape the % of a zone
	}
	return url.Parse("//" + value)
}

// masked returns an endpoint for messages, without what may be a password or a token: all of it if there is an @ somewhere, since a user part
// may also stand in front of the scheme or have a slash; a query; a fragment; a port that is none, as in http://user:password; and a host with
// colons that is no IP address.
func masked(value string) string {
	if strings.Contains(value, "@") {
		return "..."
	}
	if at := strings.IndexAny(value, "?#"); at >= 0 {
		value = value[:at+1] + "..."
	}
	begin := strings.Index(value, "://") + len("://")
	if begin < len("://") {
		begin = 0
	}
	end := len(value)
	if at := strings.IndexAny(value[begin:], "/?#"); at >= 0 {
		end = begin + at
	}
	colon := strings.LastIndex(value[begin:end], ":") + 1
	_, err := netip.ParseAddr(value[begin:end])
	if err != nil && !strings.HasPrefix(value[begin:], "[") && strings.Count(value[begin:end], ":") > 1 {
		return "..." // user:password:port
	}
	if hasPort := err != nil && colon > 0 && value[end-1] != ']'; hasPort && strings.Trim(value[begin+colon:end], "0123456789") != "" {
		return value[:begin+colon] + "..."
	}
	return value
}

// String returns the endpoint for messages.
func (e endpoint) String() string { return e.given }

// target returns the endpoint for gRPC.
func (e endpoint) target() string {
	if e.host == "" {
		return (&url.URL{Scheme: "unix", Path: e.address}).String()
	}
	return "dns:///" + strings.Replace(e.address, "%", "%25", 1)
}

// url returns the endpoint for HTTP.
func (e endpoint) url() string {
	u := url.URL{Scheme: "http", Host: e.address, Path: e.path}
	if e.tls {
		u.Scheme = "https"
	}
	return u.String()
}

// addSignal appends the path of metrics below an endpoint for all signals, unless the path ends with it
// (https://opentelemetry.io/docs/specs/otlp/#otlphttp-request).
func (e *endpoint) addSignal() {
	const signalPath = "/v1/metrics"
	if !strings.HasSuffix(e.path, signalPath) {
		e.path = strings.TrimSuffix(e.path, "/") + signalPath
	}
}

// validHost reports whether host is an IP address or has only the characters of host names, which zones also have. Names of containers
// may have underscores.
func validHost(host string) bool {
	if addr, err := netip.ParseAddr(host); err == nil {
		host = addr.Zone()
	}
	return strings.Trim(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == ""
}

// loopback reports whether e is on this machine.
func (e endpoint) loopback() bool {
	addr, err := netip.ParseAddr(e.host)
	return e.host == "" || e.host == "localhost" || err == nil && addr.IsLoopback()
}
