package otlp

import (
	"bytes"
	"context"
	"log/slog"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http/httpguts"
)

// FuzzParseHeaders checks that what can be read can be sent and written down again, from a list and from a file, and that
// errors do not depend on what is secret.
func FuzzParseHeaders(f *testing.F) {
	for _, s := range []string{
		"", " , ", "k=v,k2=v2", " K = v , ", "a=b=c,d=", "a=Bearer%20x%2Cy,b=1+1", "a=2%", "a=1,a=2", "novalue", "=v", "a b=v", "ä=v",
		"a=%C3%A4", "a-bin=%C3", "a=%0d", "grpc-host=x", "authorization: Bearer x=", "a=1\nb=2\r\n\r\nc=3", "\ufeffa=1\n", "a=\x00", "a=\xff",
		"K=v", // the Kelvin sign, whose lower case is a letter
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, list string) {
		ofFile, err := parseHeadersFile(list)
		if err == nil && len(ofFile) == 0 {
			t.Errorf("file %q has no headers, and no error", list)
		}
		for _, list := range []string{list, headerLines.Replace(list)} {
			checkParseHeaders(t, list)
		}
		if ofList, _ := ParseHeaders(list); !strings.ContainsAny(list, "\n\ufeff") && len(ofList) > 0 && !maps.Equal(ofFile, ofList) {
			t.Errorf("%q has %q, in a file %q", list, ofList, ofFile)
		}
	})
}

// checkParseHeaders reads a list, each header of which must be one that can be sent, and read back as it is.
func checkParseHeaders(t *testing.T, list string) {
	t.Helper()
	got, err := ParseHeaders(list)
	if err != nil {
		_, other := ParseHeaders(otherValues(list))
		if got != nil || strings.Contains(err.Error(), "\n") || other == nil || other.Error() != err.Error() {
			t.Errorf("%q: %q, %q; with other values %v", list, got, err, other)
		}
		return
	}
	var pairs []string
	for _, key := range slices.Sorted(maps.Keys(got)) {
		value := got[key]
		// gRPC encodes what is binary.
		if !httpguts.ValidHeaderFieldName(key) || !strings.HasSuffix(key, "-bin") && !httpguts.ValidHeaderFieldValue(value) {
			t.Errorf("%q: header %q is %q", list, key, value)
		}
		pairs = append(pairs, key+"="+url.PathEscape(value))
	}
	if again, err := ParseHeaders(strings.Join(pairs, ",")); err != nil || !maps.Equal(again, got) {
		t.Errorf("%q is %q, and %q is %q, %v", list, got, pairs, again, err)
	}
}

// otherValues has other letters where a list of headers has values, or what may be one, as good or bad as they were: letters that
// are hexadecimal digits, which an encoding may have, stay.
func otherValues(list string) string {
	var b strings.Builder
	for pair := range strings.SplitAfterSeq(list, ",") {
		key, value, found := strings.Cut(pair, "=")
		if found && validKey(strings.ToLower(strings.TrimSpace(key))) {
			b.WriteString(key + "=")
		} else {
			value = pair
		}
		b.WriteString(strings.Map(func(r rune) rune {
			switch {
			case r >= 'g' && r < 'z', r >= 'G' && r < 'Z':
				return r + 1
			case r == 'z', r == 'Z':
				return r - ('z' - 'g')
			}
			return r
		}, value))
	}
	return b.String()
}

// FuzzVariables has the OTLP exporter read values of its variables, each of which it must follow, ignore with a warning, or
// refuse by name; and what it follows must be enough to make the exporter.
func FuzzVariables(f *testing.F) {
	names := []string{"ENDPOINT", "PROTOCOL", "INSECURE", "HEADERS", "TIMEOUT", "COMPRESSION", "TEMPORALITY_PREFERENCE", "CERTIFICATE"}
	for _, s := range [][]string{
		{"", "", "", "", "", "", "", "", ""},
		{"localhost:4317", "grpc", "true", "a=b", "1000", "gzip", "delta", "", "60000"},
		{"http://a/b", "http/protobuf", "", "a=b%20c,d=e", "0", "none", "lowmemory", "ca.pem", "x"},
		{"https://a", "HTTP/PROTOBUF", "false", "authorization", "-1", "GZIP", "Cumulative", "ca.pem", "9223372036854775807"},
		{"https://[fe80::1%25eth0]:1", "http/json", "maybe", "a=%", "9223372036855", "zstd", "none", "nosuch.pem", " 7 "},
		{"unix:///run/otel.sock", "grpc", "", "", "", "", "", "", ""},
		{"http://a:4318/b", "", "", "", "", "", "", "", ""},
		{"u:p@http://a", " grpc ", "TRUE", "grpc-a=b", "1e3", "", "", "", "1ms"},
	} {
		f.Add(s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7], s[8])
	}
	f.Fuzz(func(t *testing.T, endpoint, protocol, insecure, list, timeout, compression, temporality, ca, interval string) {
		if strings.ContainsAny(ca, "/\n") {
			return // no file of the machine's, of which some are read for ever; and the system's errors have names as they are
		}
		set := map[string]string{"OTEL_METRIC_EXPORT_INTERVAL": interval}
		for i, value := range []string{endpoint, protocol, insecure, list, timeout, compression, temporality, ca} {
			set["OTEL_EXPORTER_OTLP_"+names[i]] = value
		}
		for name, value := range set {
			if os.Setenv(name, value) != nil {
				os.Unsetenv(name)
			}
			defer os.Unsetenv(name)
		}
		var logged bytes.Buffer
		log := slog.New(slog.NewTextHandler(&logged, nil))
		c, err := Config{}.resolve(log)
		for line := range strings.Lines(logged.String()) {
			if !strings.Contains(line, " variable=OTEL_") {
				t.Errorf("logged %q", line)
			}
		}
		if err != nil {
			if c != nil || !strings.HasPrefix(err.Error(), "OTEL_EXPORTER_OTLP_") || strings.Contains(err.Error(), "\n") {
				t.Errorf("%q: %+v, %q", set, c, err)
			}
			return
		}
		if c.Interval <= 0 || c.Timeout <= 0 || (c.tls != nil) != c.endpoint.tls ||
			!slices.Contains([]string{GRPC, HTTPProtobuf}, c.Protocol) ||
			!slices.Contains([]string{NoCompression, Gzip}, c.Compression) ||
			!slices.Contains([]string{Cumulative, Delta, LowMemory}, c.Temporality) {
			t.Errorf("%q: %+v", set, c)
		}
		x, err := c.newExporter()
		if err != nil {
			t.Fatalf("%q: %v", set, err)
		}
		if err := x.Shutdown(context.Background()); err != nil {
			t.Errorf("%q: %v", set, err)
		}
		// A secret that follows whatever was there before.
		const secret = "hunter2"
		os.Setenv("OTEL_EXPORTER_OTLP_HEADERS", strings.ReplaceAll(list, "\x00", "")+secret)
		logged.Reset()
		if _, err := (Config{}).resolve(log); err != nil && strings.Contains(err.Error(), secret) || strings.Contains(logged.String(), secret) {
			t.Errorf("%q: %v, logged %s", set, err, &logged)
		}
	})
}
