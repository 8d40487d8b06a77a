package telemetry

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// endpoint is where OTLP is pushed to.
type endpoint struct {
	target string // as gRPC dials it: dns:///host:port or unix:///path
	host   string // without port and brackets; empty for a Unix socket
	tls    bool
}

// parseEndpoint reads a collector's address:
//
//	host, host:port, 127.0.0.1:4317, [::1]:4317   plaintext, or TLS where insecure is false; port 4317 by default
//	http://host, http://host:port                 plaintext; port 4317 by default
//	https://host, https://host:port               TLS; port 443 by default, as gRPC has it
//	unix:///path                                  plaintext
//
// insecure may be nil; it must not contradict the scheme.
//
// The SDK is not up to this: it takes 127.0.0.1:4317 for a malformed URL and goes to localhost:4317 after a log line, takes
// localhost:4317 for a URL whose scheme is "localhost" and speaks TLS, and with http:// it speaks TLS too once
// OTEL_EXPORTER_OTLP_CERTIFICATE is set (otlpmetricgrpc/internal/oconf).
func parseEndpoint(value string, insecure *bool) (endpoint, error) {
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
	if err != nil {
		var reason *url.Error
		if errors.As(err, &reason) {
			err = reason.Err
		}
		return fail("%w", err)
	}
	if u.User != nil {
		value = u.Redacted()
		return fail("user information is not supported; send a header")
	}

	e := endpoint{host: u.Hostname()}
	port := "4317"
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
	case u.Path != "" && u.Path != "/":
		return fail("OTLP over gRPC takes no path, this has %q", u.Path)
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.Contains(value, "#"):
		return fail("OTLP over gRPC takes no query and no fragment")
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
	e.target = "dns:///" + strings.Replace(net.JoinHostPort(e.host, port), "%", "%25", 1)
	return e, nil
}

// validHost reports whether host is an IP address or made of the letters of host names. Container names may have underscores.
func validHost(host string) bool {
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	return strings.Trim(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == ""
}

// loopback reports whether what is sent to e stays on this machine.
func (e endpoint) loopback() bool {
	addr, err := netip.ParseAddr(e.host)
	return e.host == "" || e.host == "localhost" || err == nil && addr.IsLoopback()
}

// ParseHeaders reads "key=value,key2=value2" as OTEL_EXPORTER_OTLP_HEADERS has it: values are percent-encoded, spaces around
// keys, values and pairs mean nothing, and of a key that comes twice the last value counts. Errors do not show values, which
// tend to be secrets.
//
// The format is that of W3C Baggage, without properties:
// https://opentelemetry.io/docs/specs/otel/protocol/exporter/#specifying-headers-via-environment-variables
func ParseHeaders(s string) (map[string]string, error) {
	headers := map[string]string{}
	for i, pair := range strings.Split(s, ",") {
		if strings.TrimSpace(pair) == "" {
			continue
		}
		key, value, found := strings.Cut(pair, "=")
		key = strings.ToLower(strings.TrimSpace(key))
		if !found {
			return nil, fmt.Errorf("header %d has no \"=\"; expected key=value,key2=value2", i+1)
		}
		value, err := url.PathUnescape(strings.TrimSpace(value))
		if err != nil {
			return nil, fmt.Errorf("header %q: the value has a bad percent encoding", key)
		}
		if err := checkHeader(key, value); err != nil {
			return nil, err
		}
		headers[key] = value
	}
	return headers, nil
}

// checkHeader tells what gRPC would refuse in every single call (google.golang.org/grpc/internal/metadata.ValidatePair).
func checkHeader(key, value string) error {
	valid := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || strings.ContainsRune("-_.", r)
	}
	if key == "" || strings.ContainsFunc(key, func(r rune) bool { return !valid(r) }) {
		return fmt.Errorf("header %q: a key has letters, digits, \"-\", \"_\" and \".\" only", key)
	}
	if strings.HasPrefix(key, "grpc-") {
		return fmt.Errorf("header %q: keys that begin with grpc- are reserved", key)
	}
	if !strings.HasSuffix(key, "-bin") && strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' }) {
		return fmt.Errorf("header %q: the value has characters that are not printable ASCII", key)
	}
	return nil
}

// checkHeaders returns h with lower-case keys, as gRPC has them.
func checkHeaders(h map[string]string) (map[string]string, error) {
	checked := map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(h)) {
		if err := checkHeader(strings.ToLower(key), h[key]); err != nil {
			return nil, err
		}
		checked[strings.ToLower(key)] = h[key]
	}
	return checked, nil
}
