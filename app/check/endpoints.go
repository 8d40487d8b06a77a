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
	"syscall"
	"time"
)

// addressTimeout is how long a server at the metrics address has to answer.
const addressTimeout = 3 * time.Second

const addressName = "metrics_address"

// addressFinding says whether an address is free, and if it is in use, by whom.
func addressFinding(ctx context.Context, a Address) Finding {
	f := Finding{Name: addressName}
	switch {
	case a.Refused == nil:
		f.Summary = a.Text + " is free"
	case errors.Is(a.Refused, syscall.EADDRINUSE):
		status, who := whoServes(ctx, a)
		f.set(status, "%s is in use: %s", a.Text, who)
	case errors.Is(a.Refused, syscall.EADDRNOTAVAIL):
		f.set(Warning, "this machine does not have %s: promflow would wait for it", a.Text)
	default:
		f.set(Error, "%v", a.Refused)
	}
	return f
}

// whoServes says what answers at an address. The status is OK for a promflow, and Warning for a server that does not say what it is.
func whoServes(ctx context.Context, a Address) (status Status, who string) {
	host := a.Local
	if a.Network == "unix" {
		host = "localhost"
	}
	ctx, cancel := context.WithTimeout(ctx, addressTimeout)
	defer cancel()
	client := http.Client{
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, a.Network, a.Local)
			},
			// The request has no secrets, and any certificate will do.
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	for _, scheme := range []string{"http", "https"} {
		url := scheme + "://" + host + "/metrics"
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return Error, err.Error()
		}
		response, err := client.Do(request)
		if alert := (*net.OpError)(nil); errors.As(err, &alert) && alert.Op == "remote error" { // as crypto/tls calls an alert
			return Warning, fmt.Sprintf("a server with TLS asks for a client certificate (%v): maybe a promflow", alert.Err)
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
				return OK, "a promflow answers there" + version
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

// buildInfo matches the line of a page with the version of a promflow.
var buildInfo = regexp.MustCompile(`^promflow_build_info\{(?:(?:.*,)?version="([^"]*)")?`)

// maxPage is how much of a page is searched, in bytes.
const maxPage = 256 << 20

// promflowVersion searches a page for promflow_build_info.
func promflowVersion(page io.Reader) (version string, ok bool) {
	lines := bufio.NewScanner(io.LimitReader(page, maxPage))
	for lines.Scan() {
		if m := buildInfo.FindSubmatch(lines.Bytes()); m != nil {
			if m[1] != nil {
				version = fmt.Sprintf(" (version %s)", m[1])
			}
			return version, true
		}
	}
	return "", false
}

// collectorFinding tests whether the collector accepts an empty push.
func collectorFinding(ctx context.Context, push func(context.Context) (string, error)) Finding {
	f := Finding{Name: "collector", Summary: "none: promflow would not push"}
	if push == nil {
		return f
	}
	begin := time.Now()
	endpoint, err := push(ctx)
	if err != nil {
		f.set(Error, "%s does not take a push", endpoint)
		f.reasons(err)
		return f
	}
	f.set(OK, "%s takes pushes; an empty one took %v", endpoint, time.Since(begin).Round(100*time.Microsecond))
	return f
}
