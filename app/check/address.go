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

// addressFinding binds the metrics address, and asks who has it if that fails.
func addressFinding(ctx context.Context, address string) Finding {
	f := Finding{Name: "metrics_address"}
	if address == "" {
		f.Summary = "none: promflow would open no port"
		return f
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err == nil {
		err = listener.Close()
	}
	switch {
	case err == nil:
		f.Summary = address + " is free"
	case errors.Is(err, syscall.EADDRINUSE):
		who, ok := whoServes(ctx, address)
		f.Summary = fmt.Sprintf("%s is in use: %s", address, who)
		if !ok {
			f.Status = Error
		}
	default:
		f.Status = Error
		f.Summary = fmt.Sprintf("%s cannot be served: %v", address, err)
	}
	return f
}

// whoServes tells what answers at an address, and whether that is a promflow, as far as it says.
func whoServes(ctx context.Context, address string) (who string, promflow bool) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return err.Error(), false
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
			return err.Error(), false
		}
		response, err := client.Do(request)
		if err != nil {
			return fmt.Sprintf("what has it does not speak HTTP (%v)", err), false
		}
		defer response.Body.Close()
		if response.StatusCode == http.StatusBadRequest && scheme == "http" { // what Go's servers with TLS say to it
			continue
		}
		if response.StatusCode != http.StatusOK {
			return fmt.Sprintf("a server answers %s with %s", url, response.Status), false
		}
		if version, ok := promflowVersion(response.Body); ok {
			return strings.TrimSpace("a promflow answers there " + version), true
		}
		return fmt.Sprintf("another program answers %s", url), false
	}
	return "a server answers with " + http.StatusText(http.StatusBadRequest), false
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
