package check

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// addressTimeout is how long what serves at the metrics address has to answer.
const addressTimeout = 3 * time.Second

// addressFinding tells of the metrics address, and of who has it if that is why it was refused.
func addressFinding(ctx context.Context, address string, refused error) Finding {
	f := Finding{Name: "metrics_address"}
	if address == "" {
		f.Summary = "none: promflow would open no port"
		return f
	}
	switch {
	case refused == nil:
		f.Summary = address + " is free"
	case errors.Is(refused, syscall.EADDRINUSE):
		var who string
		f.Status, who = whoServes(ctx, address)
		f.Summary = fmt.Sprintf("%s is in use: %s", address, who)
	default:
		f.Status = Error
		f.Summary = refused.Error()
	}
	return f
}

// whoServes tells what answers at an address. It is no error if that is a promflow, and maybe none if it does not say who it is.
func whoServes(ctx context.Context, address string) (status Status, who string) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return Error, err.Error()
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	ctx, cancel := context.WithTimeout(ctx, addressTimeout)
	defer cancel()
	client := http.Client{
		Transport: &http.Transport{
			DisableKeepAlives: true,
			// Who answers is wanted, and nothing is told to them.
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	for _, scheme := range []string{"http", "https"} {
		url := scheme + "://" + net.JoinHostPort(host, port) + "/metrics"
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return Error, err.Error()
		}
		response, err := client.Do(request)
		if alert := (*net.OpError)(nil); errors.As(err, &alert) && alert.Op == "remote error" { // as crypto/tls calls an alert
			return Warning, fmt.Sprintf("a server with TLS refuses who has no certificate of its choice (%v): maybe a promflow", alert.Err)
		}
		if errors.Is(err, context.DeadlineExceeded) {
			return Error, fmt.Sprintf("what has it does not answer within %v", addressTimeout)
		}
		if err != nil {
			return Error, fmt.Sprintf("what has it does not speak HTTP (%v)", err)
		}
		defer response.Body.Close()
		switch response.StatusCode {
		case http.StatusOK:
			if version, ok := promflowVersion(response.Body); ok {
				return OK, strings.TrimSpace("a promflow answers there " + version)
			}
			return Error, fmt.Sprintf("another program answers %s", url)
		case http.StatusUnauthorized, http.StatusForbidden:
			return Warning, fmt.Sprintf("a server answers %s with %s: maybe a promflow with a password", url, response.Status)
		case http.StatusBadRequest: // what Go's servers with TLS say to http
		default:
			return Error, fmt.Sprintf("a server answers %s with %s", url, response.Status)
		}
	}
	return Error, "a server answers with " + http.StatusText(http.StatusBadRequest)
}

var versionLabel = regexp.MustCompile(`(?:^|,)version="([^"]*)"`)

// maxPage is how much of a page is read to find out whose it is.
const maxPage = 256 << 20

// promflowVersion looks for promflow's build on a page.
func promflowVersion(page io.Reader) (version string, ok bool) {
	lines := bufio.NewScanner(io.LimitReader(page, maxPage))
	for lines.Scan() {
		if labels, ok := strings.CutPrefix(lines.Text(), "promflow_build_info{"); ok {
			if m := versionLabel.FindStringSubmatch(labels); m != nil {
				version = "(version " + m[1] + ")"
			}
			return version, true
		}
	}
	return "", false
}
