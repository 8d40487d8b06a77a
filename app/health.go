package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/urfave/cli/v2"

	"promflow/app/top"
	"promflow/app/web"
)

// healthCommand is promflow health.
func healthCommand(c *config) *cli.Command {
	timeout, file := new(time.Duration), httpConfigFile("Health")
	taken := append(c.all.named("metrics-address"), settings{
		{category: "Health", name: "timeout", holder: "TIME", byDefault: "5s", parse: duration(timeout, 1),
			usage: "how long the answer may take"},
		file,
	}.withDefaults()...)
	return &cli.Command{
		Name:      "health",
		Usage:     "ask whether promflow answers, as a container's health check does",
		UsageText: "promflow health [flags] [URL]",
		Description: `Asks the promflow at a URL. Without a URL, it asks the one on this machine, at --metrics-address or its variable: in a
container that is the program itself. The status is 0 if promflow answers, even if it asks for a password or a certificate,
else 1. Without a URL and --http-config-file any certificate of the server will do.`,
		Flags: taken.flags(),
		Action: func(ctx *cli.Context) error {
			if err := errors.Join(tooMany(ctx, 1, oneURL), c.all.refuse(taken), taken.resolve()); err != nil {
				return err
			}
			targets, err := c.targets(file, ctx.Args().First())
			if err != nil {
				return err
			}
			withTimeout, cancel := context.WithTimeout(ctx.Context, *timeout)
			defer cancel()
			if err := probeAny(withTimeout, targets); err != nil {
				return err
			}
			_, err = fmt.Fprintln(os.Stdout, "OK")
			return err
		},
	}
}

// target is where a promflow may answer.
type target struct {
	client *http.Client
	base   *url.URL
	here   bool // on this machine: any certificate will do, and what serves HTTPS only is asked by HTTPS

	wantsCertificate *atomic.Bool // the server has asked for a client certificate
}

// newTarget returns a target with the configuration in file. at is an address on this machine, or nil.
func newTarget(file *setting, base *url.URL, at *web.Address) (t target, err error) {
	t = target{base: base, here: at != nil, wantsCertificate: new(atomic.Bool)}
	var dial func(_ context.Context, network, address string) (net.Conn, error)
	if t.here {
		dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
			network, address := at.Local()
			return new(net.Dialer).DialContext(ctx, network, address)
		}
	}
	if t.client, err = httpClient(file, dial); err != nil || *file.text != "" {
		return t, err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if t.here {
		transport.DialContext, transport.Proxy = dial, nil
	}
	transport.TLSClientConfig = &tls.Config{
		InsecureSkipVerify: t.here, // the probe sends no secret
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			t.wantsCertificate.Store(true)
			return new(tls.Certificate), nil
		},
	}
	t.client.Transport = transport
	return t, nil
}

// targets returns what to probe, with the configuration in file: a URL or, if that is empty, where the promflow on this machine listens.
func (c *config) targets(file *setting, text string) (all []target, err error) {
	if text != "" {
		base, err := parseBase(text)
		if err != nil {
			return nil, fmt.Errorf("health: %q: %w", text, err)
		}
		t, err := newTarget(file, base, nil)
		return []target{t}, err
	}
	if len(c.addresses) == 0 {
		return nil, fmt.Errorf("%s %s: this promflow serves nothing; give the URL of another one", c.givenBy("metrics-address"), web.None)
	}
	for _, a := range c.addresses {
		network, host := a.Local()
		if network == "unix" {
			host = "localhost"
		}
		t, err := newTarget(file, &url.URL{Scheme: "http", Host: host}, &a)
		if err != nil {
			return nil, err
		}
		all = append(all, t)
	}
	return all, nil
}

// probeAny probes all targets at once. It returns nil once one answers: others may be of addresses that this machine does not have now.
func probeAny(ctx context.Context, all []target) error {
	answers := make(chan error, len(all))
	for _, t := range all {
		go func() {
			err := t.probe(ctx)
			if errors.Is(err, errWantsTLS) && t.here {
				t.base.Scheme = "https"
				err = t.probe(ctx)
			}
			if err != nil {
				err = fmt.Errorf("health: %s: %w", t.base.Redacted(), err)
			}
			answers <- err
		}()
	}
	var errs []error
	for range all {
		err := <-answers
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

var errWantsTLS = errors.New("it serves HTTPS only")

// probe returns an error if no promflow answers.
func (t target) probe(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, t.base.JoinPath("/-/healthy").String(), nil)
	if err != nil {
		return err
	}
	response, err := t.client.Do(request)
	if err != nil && ctx.Err() == nil && t.wantsCertificate.Load() {
		return nil // it refuses who has no certificate, and closes the connection at any time
	}
	if err != nil {
		return errors.Unwrap(err) // url.Error, which Do always returns, repeats the whole URL
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<10))
	switch {
	case response.StatusCode == http.StatusUnauthorized:
		return nil
	case err != nil:
		return err
	case strings.Contains(string(body), "HTTP request to an HTTPS server"): // from net/http
		return errWantsTLS
	case response.StatusCode != http.StatusOK || strings.TrimSpace(string(body)) != "OK":
		return fmt.Errorf("the server answers %s, %q: it is not a promflow", response.Status, top.Clean(string(body)))
	}
	return nil
}
