package otlp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/resource"

	"promflow/telemetry/sdk"
)

// explainTimeout is how long the steps of a connection may take, each, when one is tried to find out why a push fails.
const explainTimeout = 2 * time.Second

// Probe pushes an empty message as a [Push] would push counts, and gives the collector's address for messages. An error
// joins what the push met and what a connection of its own, step by step, says about it.
func Probe(ctx context.Context, o Config, log *slog.Logger) (endpoint string, err error) {
	c, err := o.resolve(log)
	if err != nil {
		return o.Endpoint, err
	}
	endpoint = c.endpoint.String()
	x := &exporter{timeout: c.timeout, log: log}
	sdk.Quietly(log, func() { x.Exporter, err = c.dial(x) })
	if err != nil {
		return endpoint, err
	}
	defer func() {
		ended, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = x.Shutdown(ended) // nothing is lost
	}()
	if err := x.send(ctx, &metricdata.ResourceMetrics{Resource: resource.Empty()}); err != nil {
		return endpoint, errors.Join(&sdk.LoggedError{Err: err}, c.explain(ctx))
	}
	return endpoint, nil
}

// explain connects to the collector step by step, and says which step fails.
func (c *resolved) explain(ctx context.Context) error {
	step := func(doing string, do func(context.Context) error) error {
		ctx, cancel := context.WithTimeout(ctx, explainTimeout)
		defer cancel()
		if err := do(ctx); err != nil {
			return fmt.Errorf("%s: %w", doing, err)
		}
		return nil
	}
	network, address := c.address()
	if host := c.endpoint.host; host != "" {
		err := step("resolving "+host, func(ctx context.Context) error {
			_, err := net.DefaultResolver.LookupHost(ctx, host)
			return err
		})
		if err != nil {
			return err
		}
	}
	var connection net.Conn
	err := step("connecting to "+address, func(ctx context.Context) (err error) {
		connection, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	if err != nil {
		return err
	}
	defer connection.Close()
	if c.endpoint.tls {
		config := c.tls.Clone()
		config.ServerName = c.endpoint.host
		config.NextProtos = []string{"h2"}
		if err := step("TLS with "+address, tls.Client(connection, config).HandshakeContext); err != nil {
			return err
		}
		return fmt.Errorf("%s can be reached, and TLS works: it is the push that is not taken", address)
	}
	return fmt.Errorf("%s can be reached: it is the push that is not taken", address)
}

// address gives where to connect to, as package net has it.
func (c *resolved) address() (network, address string) {
	if c.endpoint.url != nil {
		return "tcp", c.endpoint.url.Host
	}
	if path, ok := strings.CutPrefix(c.endpoint.target, "unix://"); ok {
		return "unix", path
	}
	return "tcp", strings.ReplaceAll(strings.TrimPrefix(c.endpoint.target, "dns:///"), "%25", "%")
}
