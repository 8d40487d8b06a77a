package otlp

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"promflow/telemetry/sdk"
)

// headers are those of every request.
type headers struct {
	fixed map[string]string
	file  string // read for each request, on top of the fixed ones; may be empty
}

// headers gives those of o, or else of the environment.
func (o Config) headers() (h headers, err error) {
	if h.file = o.HeadersFile; h.file != "" {
		// A pipe would have the headers only once.
		if info, err := os.Stat(h.file); err == nil && !info.Mode().IsRegular() {
			return h, settingError(sdk.Variable{}, "headers-file", fmt.Errorf("%s is not a regular file", h.file))
		}
		if _, err := h.now(); err != nil {
			return h, settingError(sdk.Variable{}, "headers-file", err)
		}
	}
	from := sdk.Variable{}
	if h.fixed = o.Headers; len(h.fixed) == 0 {
		from = otlpVariable("HEADERS")
		h.fixed, err = ParseHeaders(from.Value)
	} else {
		h.fixed, err = checkHeaders(o.Headers)
	}
	return h, settingError(from, "headers", err)
}

func (h headers) any() bool { return len(h.fixed) > 0 || h.file != "" }

// now gives the headers as they are at this moment.
func (h headers) now() (map[string]string, error) {
	if h.file == "" {
		return h.fixed, nil
	}
	list, err := os.ReadFile(h.file)
	if err != nil {
		return nil, err
	}
	ofFile, err := parseHeadersFile(string(list))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", h.file, err)
	}
	all := map[string]string{}
	maps.Copy(all, h.fixed)
	maps.Copy(all, ofFile)
	return all, nil
}

// headerLines makes a list of lines, as editors may leave them.
var headerLines = strings.NewReplacer("\ufeff", "", "\r\n", ",", "\n", ",")

// parseHeadersFile reads what a file has: at least one header.
func parseHeadersFile(content string) (map[string]string, error) {
	headers, err := ParseHeaders(headerLines.Replace(content))
	if err == nil && len(headers) == 0 {
		return nil, errors.New("there is no header in it")
	}
	return headers, err
}

// intercept adds the headers to a gRPC request.
func (h headers) intercept(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
	all, err := h.now()
	if err != nil {
		return err
	}
	for key, value := range all {
		ctx = metadata.AppendToOutgoingContext(ctx, key, value)
	}
	return invoke(ctx, method, request, reply, conn, options...)
}

// set adds the headers to those of an HTTP request.
func (h headers) set(header http.Header) error {
	all, err := h.now()
	for key, value := range all {
		header.Set(key, value)
	}
	return err
}

// ParseHeaders reads "key=value,key2=value2" as OTEL_EXPORTER_OTLP_HEADERS has it: values are percent-encoded, spaces around
// keys, values and pairs mean nothing, and of a key that comes twice the last value counts. Errors do not show values, which
// tend to be secrets, nor what should be a key and may have one.
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
		if !validKey(key) { // perhaps with the value, as in "key: value"
			return nil, fmt.Errorf("header %d: %s; expected key=value,key2=value2", i+1, keyHas)
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

const keyHas = `a key has letters, digits, "-", "_" and "." only`

func validKey(key string) bool {
	return key != "" && strings.Trim(key, "abcdefghijklmnopqrstuvwxyz0123456789-_.") == ""
}

// checkHeader tells what gRPC would refuse in every single call (google.golang.org/grpc/internal/metadata.ValidatePair).
func checkHeader(key, value string) error {
	if !validKey(key) {
		return fmt.Errorf("header %q: %s", key, keyHas)
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
