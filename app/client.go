package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	promconfig "github.com/prometheus/common/config"

	"promflow/app/top"
)

// httpConfigFile is the setting of an HTTP client's configuration file.
func httpConfigFile(category string) *setting {
	return &setting{category: category, name: "http-config-file", holder: "FILE", text: new(string),
		usage: "TLS and authentication for the URL, as of Prometheus' HTTP clients:\nhttps://prometheus.io/docs/prometheus/latest/configuration/configuration/#http_config"}
}

// httpClient returns a client with the configuration in file, which dials by dial unless that is nil, or the default client without a file.
func httpClient(file *setting, dial func(_ context.Context, network, address string) (net.Conn, error)) (*http.Client, error) {
	client, options := new(http.Client), []promconfig.HTTPClientOption{}
	if dial != nil {
		options = append(options, promconfig.WithDialContextFunc(dial))
	}
	if name := *file.text; name != "" {
		parsed, _, err := promconfig.LoadHTTPConfigFile(name)
		if err == nil {
			client, err = promconfig.NewClientFromConfig(*parsed, "promflow", options...)
		}
		if err != nil {
			return nil, fmt.Errorf("%s %q: %w", file.givenBy, name, err)
		}
	}
	client.CheckRedirect = onSameHost
	return client, nil
}

// onSameHost refuses redirects to other hosts, of which the user knows nothing.
func onSameHost(to *http.Request, before []*http.Request) error {
	if first := before[0].URL; to.URL.Hostname() != first.Hostname() {
		return fmt.Errorf("it redirects to another host, %s", top.Clean(to.URL.Host))
	}
	if len(before) >= 10 {
		return errors.New("it redirects too often")
	}
	return nil
}

// defaultPort is that of --metrics-address.
const defaultPort = "9088"

// oneURL is what top, usage and health take.
const oneURL = "one URL, and flags come before it"

// parseBase parses the address of a promflow: a URL or, without http://, a host with or without a port.
func parseBase(text string) (*url.URL, error) {
	address, hasScheme := text, strings.Contains(text, "://")
	if !hasScheme {
		if a, err := netip.ParseAddr(text); err == nil && a.Is6() {
			address = "[" + strings.Replace(text, "%", "%25", 1) + "]" // a zone, as RFC 6874 writes it
		}
		address = "http://" + address
	}
	base, err := url.Parse(address)
	if err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Hostname() == "" || base.RawQuery != "" || base.Fragment != "" {
		return nil, errors.New("expected a URL such as http://router:9088, or a host") // without err, which may quote a password
	}
	if !hasScheme && base.Port() == "" {
		base.Host = net.JoinHostPort(base.Hostname(), defaultPort)
	}
	return base, nil
}

// remote is a promflow that runs, maybe on another machine.
type remote struct {
	base      *url.URL
	isDefault bool // the user gave no URL
	client    *http.Client
	timeout   time.Duration // how long an answer may take
	hint      string        // what to do if nothing answers at the default URL
}

// ask has fetch ask, and explains its error.
func (r remote) ask(ctx context.Context, fetch func(context.Context, *http.Client, *url.URL) error) error {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	if err := fetch(ctx, r.client, r.base); err != nil {
		return r.explain(err)
	}
	return nil
}

// explain says why asking failed, and what the user can do.
func (r remote) explain(err error) error {
	var request *url.Error
	if !errors.As(err, &request) {
		return errors.New(top.Clean(err.Error())) // it quotes the server's answer
	}
	err = request.Err // url.Error repeats the whole URL
	var (
		operation *net.OpError
		lookup    *net.DNSError
		untrusted *tls.CertificateVerificationError
		hint      string
	)
	dialed := errors.As(err, &operation) && operation.Op == "dial"
	if dialed {
		err = operation.Err // without the address, which the message has already
	}
	switch {
	case errors.As(err, &untrusted):
		hint = " (--http-config-file can name the certificate authority: tls_config, ca_file)"
	case errors.Is(err, context.DeadlineExceeded):
		err = fmt.Errorf("no answer in %v: %w", r.timeout, err)
	case !dialed || errors.As(err, &lookup): // no hint
	case r.isDefault:
		hint = ": " + r.hint
	default:
		hint = ": does promflow run there, and serve on that port? By default it is " + defaultPort
	}
	return fmt.Errorf("%s: %w%s", r.base.Redacted(), err, hint)
}
