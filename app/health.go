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

// probing is what flags and variables say of promflow health.
type probing struct {
	timeout time.Duration
	http    clientFile
}

// healthCommand is promflow health.
func healthCommand(c *config) *cli.Command {
	p := new(probing)
	ofProgram := c.all.named("metrics-address")
	own := settings{
		{category: "Health", name: "timeout", holder: "TIME", byDefault: "5s", parse: duration(&p.timeout),
			usage: "how long the answer may take"},
		p.http.setting("Health"),
	}.withDefaults()
	return &cli.Command{
		Name:      "health",
		Usage:     "ask whether promflow answers, as containers are asked",
		UsageText: "promflow health [flags] [URL]",
		Description: `Asks the promflow at a URL or, without one, the one on this machine, where --metrics-address and its variable say that it
is: in a container that is the program itself. The status is 0 if it answers, else 1. That it asks for a password is an answer,
too. On this machine, who has signed its certificate does not matter.`,
		CustomHelpTemplate: helpTemplate,
		HideHelpCommand:    true,
		Flags:              append(ofProgram.flags(), own.flags()...),
		OnUsageError:       usageError,
		Action: func(ctx *cli.Context) error {
			if ctx.NArg() > 1 {
				return fmt.Errorf("health: unexpected %q: it takes one URL, and flags come before it", ctx.Args().Get(1))
			}
			if err := errors.Join(c.all.refuse(ofProgram), ofProgram.resolve(), own.resolve()); err != nil {
				return err
			}
			client, base, err := p.target(c, ctx.Args().First())
			if err != nil {
				return err
			}
			withTimeout, cancel := context.WithTimeout(ctx.Context, p.timeout)
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

// target finds out who is to be asked, and how.
func (p *probing) target(c *config, address string) (*http.Client, *url.URL, error) {
	if address != "" {
		base, err := parseBase(address)
		if err != nil {
			return nil, nil, fmt.Errorf("health: %q: %w", address, err)
		}
		client, err := p.http.client()
		return client, base, err
	}
	of := c.web()
	if of.Address == web.None {
		return nil, nil, fmt.Errorf("%s %s: nothing is served that could be asked", of.AddressFrom, web.None)
	}
	host, port, err := of.Split()
	if err != nil {
		return nil, nil, err
	}
	switch ip := net.ParseIP(host); { // where all addresses are listened on
	case host == "", ip.Equal(net.IPv4zero):
		host = "127.0.0.1"
	case ip.Equal(net.IPv6unspecified):
		host = "::1"
	}
	client, err := p.http.client()
	if err == nil && p.http.file == "" {
		client = &http.Client{Transport: &http.Transport{TLSClientConfig: trusting()}}
	}
	return client, &url.URL{Scheme: "http", Host: net.JoinHostPort(host, port)}, err
}

// trusting takes any certificate: nothing is told to whoever answers on this machine.
func trusting() *tls.Config { return &tls.Config{InsecureSkipVerify: true} }

var errWantsTLS = errors.New("it serves HTTPS only")

// probe asks whether promflow is there.
func probe(ctx context.Context, client *http.Client, base *url.URL) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, base.JoinPath("/-/healthy").String(), nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		var failed *url.Error
		if errors.As(err, &failed) {
			err = failed.Err // which has not the whole question in it
		}
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<10))
	switch {
	case response.StatusCode == http.StatusUnauthorized:
		return nil
	case err != nil:
		return err
	case strings.Contains(string(body), "HTTP request to an HTTPS server"): // as Go's servers say it
		return errWantsTLS
	case response.StatusCode != http.StatusOK || strings.TrimSpace(string(body)) != "OK":
		return fmt.Errorf("the answer is %s, %q, which is not promflow's", response.Status, top.Clean(string(body)))
	}
	return nil
}
