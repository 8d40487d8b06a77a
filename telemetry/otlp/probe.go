package otlp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

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
	x, err := c.newExporter()
	if err != nil {
		return endpoint, err
	}
	defer x.close(ctx)
	if err := x.send(ctx, nothing); err != nil {
		reason := error(nil)
		if x.answer <= stranger {
			reason = c.wrongProtocol(ctx)
		}
		if reason == nil {
			reason = c.explain(ctx)
		}
		return endpoint, errors.Join(&sdk.LoggedError{Err: err}, reason)
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
		if config.NextProtos = []string{"h2"}; c.Protocol == HTTPProtobuf {
			config.NextProtos = append(config.NextProtos, "http/1.1")
		}
		ctx, cancel := context.WithTimeout(ctx, explainTimeout)
		defer cancel()
		if err := tls.Client(connection, config).HandshakeContext(ctx); err != nil {
			return fmt.Errorf("TLS with %s: %w", address, err)
		}
	}
	return fmt.Errorf("%s can be reached, %sbut does not accept the push", address, works)
}
