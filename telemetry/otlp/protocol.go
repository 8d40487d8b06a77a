package otlp

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/resource"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// protocolsFor returns the protocols of OTLP. The first one is that of an endpoint which comes without a protocol: 4318 is the default port
// of OTLP over HTTP (https://opentelemetry.io/docs/specs/otlp/#otlphttp-default-port).
func protocolsFor(value string) []string {
	if u, err := parseURL(value); err == nil && u.Port() == "4318" {
		return []string{HTTPProtobuf, GRPC}
	}
	return []string{GRPC, HTTPProtobuf}
}

// answer is what a request tells of the protocol that the other end speaks.
type answer int

const (
	silence  answer = iota // none, or nothing that the protocol has
	stranger               // HTTP, of a server that does not know such requests, or who asks
	unclear                // HTTP, perhaps of somebody in between, such as a proxy whose server is away
	refused                // in the protocol
	accepted
)

// answerOverHTTP returns what the response to a request tells.
func answerOverHTTP(r *http.Response) answer {
	content, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	taken := r.StatusCode/100 == 2
	switch proxy, _ := http.ProxyFromEnvironment(r.Request); {
	case strings.HasPrefix(content, "application/grpc"):
		return silence
	case taken && (content == "application/x-protobuf" || content == "application/json"):
		return accepted
	case content == "application/x-protobuf":
		return refused
	case proxy != nil:
		return unclear
	case taken:
		return stranger
	}
	switch r.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed,
		http.StatusUnsupportedMediaType, http.StatusHTTPVersionNotSupported: // not 400, which is for plain text at a port for TLS
		return stranger
	}
	return unclear
}

// answerOverGRPC returns what the end of a call tells. Who speaks gRPC sends its content type with the headers or, if there is nothing but a
// status, with the trailers.
func answerOverGRPC(err error, state connectivity.State, header, trailer metadata.MD) answer {
	switch {
	case err == nil:
		return accepted
	case len(header.Get("content-type"))+len(trailer.Get("content-type")) > 0:
		return refused
	case state == connectivity.TransientFailure || state == connectivity.Connecting: // not even HTTP/2
		return silence
	}
	switch status.Code(err) { // made of an HTTP status
	case codes.Unknown, codes.Internal, codes.Unimplemented, codes.Unauthenticated, codes.PermissionDenied:
		return stranger
	}
	return unclear
}

// wrongProtocol returns an error that names the setting to change if the endpoint speaks the other protocol, and not that of c. It asks the
// endpoint in both, the other one first: a collector that has just come up would answer the second question, too.
func (c *resolved) wrongProtocol(ctx context.Context) error {
	if c.endpoint.host == "" { // a Unix socket is only for gRPC
		return nil
	}
	other := HTTPProtobuf
	if c.Protocol == other {
		other = GRPC
	}
	there := c.ask(ctx, other)
	if there < refused && (there != stranger || other != HTTPProtobuf) {
		return nil
	}
	here := c.ask(ctx, c.Protocol)
	if ctx.Err() != nil || here != silence && (here != stranger || there != accepted) {
		return nil
	}
	speaks := "speaks"
	if there == stranger {
		speaks = "seems to speak"
	}
	return fmt.Errorf("%s %s %s, not %s: set %s=%[3]s", c.endpoint.address, speaks, other, c.Protocol, c.protocolBy)
}

// ask returns how the endpoint answers an empty message in a protocol.
func (c *resolved) ask(ctx context.Context, protocol string) answer {
	o := *c
	o.Protocol, o.once, o.Timeout = protocol, true, min(c.Timeout, explainTimeout)
	if protocol == HTTPProtobuf && c.Protocol != protocol {
		o.direct = !c.endpoint.tls // as gRPC is: a proxy for HTTP would get the headers, too
		if c.endpoint.forAll {
			o.endpoint.addSignal()
		}
	}
	x, err := o.newExporter()
	if err != nil {
		return silence
	}
	defer x.close(ctx)
	_ = x.send(ctx, nothing)
	return x.answer
}

// nothing is a message without metrics.
var nothing = &metricdata.ResourceMetrics{Resource: resource.Empty()}
