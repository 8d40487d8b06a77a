package otlp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/resource"

	"promflow/telemetry/sdk"
)

// explainTimeout is the time for each step of the connection that explains a failed push.
const explainTimeout = 2 * time.Second

// Probe pushes an empty message, and returns the collector's address for messages. If the push fails, it connects by itself to find the
// reason, and the error has both.
func Probe(ctx context.Context, o Config, log *slog.Logger) (endpoint string, err error) {
	c, err := o.resolve(log)
	if err != nil {
		return masked(o.endpointSetting().value), err
	}
	endpoint = c.endpoint.String()
	x, err := c.newExporter(log)
	if err != nil {
		return endpoint, err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = x.Shutdown(ctx) // there is nothing to lose
	}()
	if err := x.send(ctx, &metricdata.ResourceMetrics{Resource: resource.Empty()}); err != nil {
		return endpoint, errors.Join(&sdk.LoggedError{Err: err}, c.explain(ctx))
	}
	return endpoint, nil
}

// explain connects to the collector step by step, and says which step fails.
func (c *resolved) explain(ctx context.Context) error {
	network, address := "tcp", c.endpoint.address
	if host := c.endpoint.host; host == "" {
		network = "unix"
	} else {
		ctx, cancel := context.WithTimeout(ctx, explainTimeout)
		defer cancel()
		if _, err := net.DefaultResolver.LookupHost(ctx, host); err != nil {
			return fmt.Errorf("resolving %s: %w", host, err)
		}
	}
	dialer := net.Dialer{Timeout: explainTimeout}
	connection, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return fmt.Errorf("connecting to %s: %w", address, err)
	}
	defer connection.Close()
	works := ""
	if c.endpoint.tls {
		works = "and TLS works, "
		config := c.tls.Clone()
		config.ServerName = c.endpoint.host
		config.NextProtos = []string{"h2"}
		ctx, cancel := context.WithTimeout(ctx, explainTimeout)
		defer cancel()
		if err := tls.Client(connection, config).HandshakeContext(ctx); err != nil {
			return fmt.Errorf("TLS with %s: %w", address, err)
		}
	}
	return fmt.Errorf("%s can be reached, %sbut does not accept the push", address, works)
}
