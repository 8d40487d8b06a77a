package otlp

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"promflow/telemetry/sdk"
)

// resolved is a [Config] completed by the environment.
type resolved struct {
	protocol    string
	endpoint    endpoint
	tls         *tls.Config // nil without TLS
	headers     headers
	compression string
	temporality string
	interval    time.Duration
	timeout     time.Duration // of a message
}

const (
	metricsPrefix = "OTEL_EXPORTER_OTLP_METRICS_"
	allPrefix     = "OTEL_EXPORTER_OTLP_"
)

// otlpVariable returns the variable for metrics, or else the one for all signals.
func otlpVariable(name string) sdk.Variable {
	return cmp.Or(sdk.EnvironmentVariable(metricsPrefix+name), sdk.EnvironmentVariable(allPrefix+name))
}

// setting is the value of a setting of [Config] or, if that has none, of the environment.
type setting struct {
	name     string // as in SettingError
	value    string
	variable string // that has the value, if any
}

func newSetting(name, value, variable string) setting {
	if value != "" {
		return setting{name: name, value: value}
	}
	v := otlpVariable(variable)
	return setting{name, v.Value, v.Name}
}

func (o Config) address() setting {
	return newSetting("endpoint", strings.TrimSpace(o.Endpoint), "ENDPOINT")
}
func (o Config) caFile() setting   { return newSetting("ca-file", o.CAFile, "CERTIFICATE") }
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

// choice returns chosen, or else the value of a variable. An unknown value is ignored with a warning, as the specification says:
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
	c = &resolved{
		protocol:    choice(log, o.Protocol, "PROTOCOL", GRPC, HTTPProtobuf),
		compression: choice(log, o.Compression, "COMPRESSION", NoCompression, Gzip),
		temporality: choice(log, o.Temporality, "TEMPORALITY_PREFERENCE", Cumulative, Delta, LowMemory),
		interval:    cmp.Or(o.Interval, sdk.DefaultInterval(log, 60*time.Second)),
		timeout:     cmp.Or(o.Timeout, otlpVariable("TIMEOUT").Milliseconds(log), defaultTimeout),
	}
	if c.endpoint, err = o.endpoint(c.protocol, log); err != nil {
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
	if c.headers, err = o.headers(); err != nil {
		return nil, err
	}
	return c, nil
}

func (o Config) endpoint(protocol string, log *slog.Logger) (endpoint, error) {
	s := o.address()
	value, insecure := cmp.Or(s.value, "localhost"), o.Insecure
	if v := otlpVariable("INSECURE"); insecure == nil && v.Name != "" && !strings.Contains(value, "://") {
		is := strings.EqualFold(v.Value, "true") // everything else is false, by the specification
		insecure = &is
		if !is && !strings.EqualFold(v.Value, "false") {
			log.Warn("a variable counts as false: expected true, false", "variable", v.Name, "value", v.Value)
		}
	}
	e, err := parseEndpoint(value, protocol, insecure)
	if err == nil && e.url != nil && !strings.HasPrefix(s.variable, metricsPrefix) {
		e.addSignal()
	}
	return e, s.wrap(err)
}
