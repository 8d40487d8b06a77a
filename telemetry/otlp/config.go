package otlp

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"promflow/telemetry/sdk"
)

// resolved is a [Config] completed by the environment.
type resolved struct {
	Config
	endpoint   endpoint
	tls        *tls.Config // nil without TLS
	protocolBy string      // the setting that changes the protocol
	once       bool        // a message is not sent again
	direct     bool        // no proxy is asked
	log        *slog.Logger
}

const metricsPrefix = "OTEL_EXPORTER_OTLP_METRICS_"

// otlpVariable returns the variable for metrics, or else the one for all signals.
func otlpVariable(name string) sdk.Variable {
	return cmp.Or(sdk.EnvironmentVariable(metricsPrefix+name), sdk.EnvironmentVariable("OTEL_EXPORTER_OTLP_"+name))
}

// setting is the value of a setting of [Config] or, if that has none, of the environment.
type setting struct {
	name     string // as in SettingError
	value    string
	variable string // the one that has the value, if any
}

// newSetting returns a setting with a value or, if that is empty, with that of a variable.
func newSetting(name, value, variable string) setting {
	if value != "" {
		return setting{name: name, value: value}
	}
	v := otlpVariable(variable)
	return setting{name, v.Value, v.Name}
}

func (o Config) endpointSetting() setting {
	return newSetting("endpoint", strings.TrimSpace(o.Endpoint), "ENDPOINT")
}

func (o Config) certFile() setting { return newSetting("cert-file", o.CertFile, "CLIENT_CERTIFICATE") }
func (o Config) keyFile() setting  { return newSetting("key-file", o.KeyFile, "CLIENT_KEY") }

// wrap names the setting or the variable in an error about it.
func (s setting) wrap(err error) error {
	switch {
	case err == nil:
		return nil
	case s.variable != "":
		return fmt.Errorf("%s: %w", s.variable, err)
	}
	return &SettingError{s.name, err}
}

// readable returns an error if the setting is a file that cannot be opened.
func (s setting) readable() error {
	if s.value == "" {
		return nil
	}
	f, err := os.Open(s.value)
	if err == nil {
		err = f.Close()
	}
	return s.wrap(err)
}

// SettingError says what is wrong with a setting of [Config]. Setting is "ca-file" for CAFile.
type SettingError struct {
	Setting string
	Err     error
}

func (e *SettingError) Error() string { return e.Setting + ": " + e.Err.Error() }
func (e *SettingError) Unwrap() error { return e.Err }

// choice returns chosen, or else the value of a variable, or else known[0]. An unknown value is ignored with a warning:
// https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/#enum
func choice(log *slog.Logger, chosen, name string, known ...string) string {
	if chosen != "" {
		return chosen
	}
	v := otlpVariable(name)
	for _, k := range known {
		if strings.EqualFold(v.Value, k) {
			return k
		}
	}
	if v.Name != "" {
		log.Warn("a variable is ignored: expected "+strings.Join(known, ", "), "variable", v.Name, "value", v.Value)
	}
	return known[0]
}

// resolve completes o by the environment.
func (o Config) resolve(log *slog.Logger) (c *resolved, err error) {
	protocolBy := cmp.Or(newSetting("", o.Protocol, "PROTOCOL").variable, "--otlp-protocol")
	o.Protocol = choice(log, o.Protocol, "PROTOCOL", protocolsFor(o.endpointSetting().value)...)
	o.Compression = choice(log, o.Compression, "COMPRESSION", NoCompression, Gzip)
	o.Temporality = choice(log, o.Temporality, "TEMPORALITY_PREFERENCE", Cumulative, Delta, LowMemory)
	o.Interval = cmp.Or(o.Interval, sdk.DefaultInterval(log, 60*time.Second))
	o.Timeout = cmp.Or(o.Timeout, otlpVariable("TIMEOUT").Milliseconds(log), defaultTimeout)
	c = &resolved{protocolBy: protocolBy, log: log}
	if c.endpoint, err = o.endpoint(log); err != nil {
		return nil, err
	}
	switch {
	case c.endpoint.tls:
		if c.tls, err = o.tls(); err != nil {
			return nil, err
		}
	case o.CAFile != "" || o.CertFile != "" || o.KeyFile != "": // the variables may be meant for other programs
		return nil, &SettingError{"endpoint", fmt.Errorf("%s is in plain text, but there are files for TLS; write https://host:port", c.endpoint)}
	}
	if _, err := o.headersNow(); err != nil {
		return nil, &SettingError{"headers-file", err}
	}
	if s := newSetting("headers", "", "HEADERS"); len(o.Headers) == 0 {
		if o.Headers, err = ParseHeaders(s.value); err != nil {
			return nil, s.wrap(err)
		}
	}
	c.Config = o
	return c, nil
}

func (o Config) endpoint(log *slog.Logger) (endpoint, error) {
	s := o.endpointSetting()
	value, insecure := cmp.Or(s.value, "localhost"), o.Insecure
	if v := otlpVariable("INSECURE"); insecure == nil && v.Name != "" && !strings.Contains(value, "://") {
		is := strings.EqualFold(v.Value, "true") // everything else is false, by the specification
		insecure = &is
		if !is && !strings.EqualFold(v.Value, "false") {
			log.Warn("a variable counts as false: expected true, false", "variable", v.Name, "value", v.Value)
		}
	}
	e, err := parseEndpoint(value, o.Protocol, insecure)
	if e.forAll = !strings.HasPrefix(s.variable, metricsPrefix); e.forAll && o.Protocol == HTTPProtobuf {
		e.addSignal()
	}
	return e, s.wrap(err)
}

// tls returns the TLS configuration of a client with the files of o or of the environment.
func (o Config) tls() (*tls.Config, error) {
	ca, cert, key := newSetting("ca-file", o.CAFile, "CERTIFICATE"), o.certFile(), o.keyFile()
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca.value != "" {
		pem, err := os.ReadFile(ca.value)
		if err != nil {
			return nil, ca.wrap(err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, ca.wrap(fmt.Errorf("%s has no certificate in PEM", ca.value))
		}
	}
	switch {
	case cert.value == "" && key.value == "":
	case key.value == "":
		return nil, cert.wrap(fmt.Errorf("%s: a client certificate needs its key", cert.value))
	case cert.value == "":
		return nil, key.wrap(fmt.Errorf("%s: a client key needs its certificate", key.value))
	default:
		load := func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(cert.value, key.value)
			return &pair, err
		}
		if _, err := load(nil); err != nil { // at start and not at the first push
			return nil, cert.wrap(fmt.Errorf("client certificate %s with key %s: %w", cert.value, key.value, err))
		}
		config.GetClientCertificate = load
	}
	return config, nil
}
