package otlp

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"strings"
)

// headersNow returns the headers of a request: those of o and of its file.
func (o Config) headersNow() (map[string]string, error) {
	if o.HeadersFile == "" {
		return o.Headers, nil
	}
	// A pipe would have the headers only once.
	if info, err := os.Stat(o.HeadersFile); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", o.HeadersFile)
	}
	list, err := os.ReadFile(o.HeadersFile)
	if err != nil {
		return nil, err
	}
	ofFile, err := parseHeadersFile(string(list))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.HeadersFile, err)
	}
	all := map[string]string{}
	maps.Copy(all, o.Headers)
	maps.Copy(all, ofFile)
	return all, nil
}

// headerLines turns lines into a list. Editors may write a byte order mark and CR LF.
var headerLines = strings.NewReplacer("\ufeff", "", "\r\n", ",", "\n", ",")

// parseHeadersFile parses the content of a file, which must have a header.
func parseHeadersFile(content string) (map[string]string, error) {
	headers, err := ParseHeaders(headerLines.Replace(content))
	if err == nil && len(headers) == 0 {
		return nil, errors.New("the file has no header")
	}
	return headers, err
}

// ParseHeaders parses "key=value,key2=value2", the format of OTEL_EXPORTER_OTLP_HEADERS: values are percent-encoded, spaces around keys
// and values are ignored, and the last value of a key counts. Errors do not show values, which are often secrets, nor invalid keys, which
// may contain a value.
//
// The format is W3C Baggage without properties:
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
		if !validKey(key) { // which may have the value, as in "key: value"
			return nil, fmt.Errorf("header %d: a key has letters, digits, \"-\", \"_\" and \".\" only; expected key=value,key2=value2", i+1)
		}
		value, err := url.PathUnescape(strings.TrimSpace(value))
		if err != nil {
			return nil, fmt.Errorf("header %q: the value has a bad percent encoding", key)
		}
		// gRPC would refuse these in each call (google.golang.org/grpc/internal/metadata.ValidatePair).
		if strings.HasPrefix(key, "grpc-") {
			return nil, fmt.Errorf("header %q: keys that begin with grpc- are reserved", key)
		}
		if !strings.HasSuffix(key, "-bin") && strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' }) {
			return nil, fmt.Errorf("header %q: the value has characters that are not printable ASCII", key)
		}
		headers[key] = value
	}
	return headers, nil
}

func validKey(key string) bool {
	return key != "" && strings.Trim(key, "abcdefghijklmnopqrstuvwxyz0123456789-_.") == ""
}
