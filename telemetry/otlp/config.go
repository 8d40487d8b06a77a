package otlp

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"promflow/telemetry/sdk"
)

// resolved is what a [Config] and the environment say together.
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

// otlpVariable gives the variable for metrics, or else that for all signals.
func otlpVariable(name string) sdk.Variable {
	return cmp.Or(sdk.EnvironmentVariable("OTEL_EXPORTER_OTLP_METRICS_"+name), sdk.EnvironmentVariable("OTEL_EXPORTER_OTLP_"+name))
}

// forMetrics tells whether v is for this signal only.
func forMetrics(v sdk.Variable) bool { return strings.HasPrefix(v.Name, "OTEL_EXPORTER_OTLP_METRICS_") }

// settingError names v in an error about it or, if it was not v that was followed, the setting of [Config].
func settingError(v sdk.Variable, setting string, err error) error {
	switch {
	case err == nil:
		return nil
	case v.Name != "":
		return fmt.Errorf("%s: %w", v.Name, err)
	}
	return &SettingError{setting, err}
}

// SettingError says what is wrong with a setting of [Config], "ca-file" for CAFile.
type SettingError struct {
	Setting string
	Err     error
}

func (e *SettingError) Error() string { return e.Setting + ": " + e.Err.Error() }
func (e *SettingError) Unwrap() error { return e.Err }

// choice gives chosen, or what the variable says. A value that is not known is ignored after a warning, as the specification
// demands: https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/#enum
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
	case o.CAFile != "" || o.CertFile != "" || o.KeyFile != "": // variables may be meant for other programs and endpoints
		return nil, &SettingError{"endpoint", fmt.Errorf("%s is in plain text, but there are files for TLS; write https://host:port", c.endpoint)}
	}
	if c.headers, err = o.headers(); err != nil {
		return nil, err
	}
	return c, nil
}

func (o Config) endpoint(protocol string, log *slog.Logger) (endpoint, error) {
	value, from := strings.TrimSpace(o.Endpoint), sdk.Variable{}
	if value == "" {
		from = otlpVariable("ENDPOINT")
		value = cmp.Or(from.Value, "localhost")
	}
	plain := o.Insecure
	if v := otlpVariable("INSECURE"); plain == nil && v.Name != "" && !strings.Contains(value, "://") {
		b := strings.EqualFold(v.Value, "true") // all else is false, by the specification
		plain = &b
		if !b && !strings.EqualFold(v.Value, "false") {
			log.Warn("a variable counts as false: expected true, false", "variable", v.Name, "value", v.Value)
		}
	}
	e, err := parseEndpoint(value, protocol, plain)
	if err == nil && e.url != nil && !forMetrics(from) {
		e.addSignal()
	}
	return e, settingError(from, "endpoint", err)
}
