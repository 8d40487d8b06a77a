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
container that is the program itself. The status is 0 if promflow answers, even if it asks for a password, else 1. Without a
URL any certificate will do.`,
		Flags: taken.flags(),
		Action: func(ctx *cli.Context) error {
			if err := errors.Join(tooMany(ctx, 1, oneURL), c.all.refuse(taken), taken.resolve()); err != nil {
				return err
			}
			client, base, err := target(c, file, ctx.Args().First())
			if err != nil {
				return err
			}
			withTimeout, cancel := context.WithTimeout(ctx.Context, *timeout)
			defer cancel()
			err = probe(withTimeout, client, base)
			if errors.Is(err, errWantsTLS) && ctx.NArg() == 0 {
				base.Scheme = "https"
				err = probe(withTimeout, client, base)
			}
			if err != nil {
				return fmt.Errorf("health: %s: %w", base.Redacted(), err)
			}
			_, err = fmt.Fprintln(os.Stdout, "OK")
			return err
		},
	}
}

// target returns a client with the configuration in file, and the URL of a promflow: at an address or, if that is empty, on this machine.
func target(c *config, file *setting, address string) (*http.Client, *url.URL, error) {
	client, err := httpClient(file)
	if err != nil {
		return nil, nil, err
	}
	if address != "" {
		base, err := parseBase(address)
		if err != nil {
			err = fmt.Errorf("health: %q: %w", address, err)
		}
		return client, base, err
	}
	if len(c.addresses) == 0 {
		return nil, nil, fmt.Errorf("%s %s: this promflow serves nothing; give the URL of another one", c.givenBy("metrics-address"), web.None)
	}
	network, at := c.addresses[0].Local()
	if *file.text == "" { // the probe sends no secret: any certificate will do
		client.Transport = &http.Transport{
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, at)
			},
		}
	}
	host := at
	if network == "unix" {
		host = "localhost"
	}
	return client, &url.URL{Scheme: "http", Host: host}, nil
}

var errWantsTLS = errors.New("it serves HTTPS only")

// probe returns an error if no promflow answers.
func probe(ctx context.Context, client *http.Client, base *url.URL) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, base.JoinPath("/-/healthy").String(), nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if refused := (*net.OpError)(nil); errors.As(err, &refused) && refused.Op == "remote error" { // as crypto/tls calls an alert
		return nil // it asks for a client certificate
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
