package web

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestParseAddresses(t *testing.T) {
	for text, want := range map[string]string{
		":9088":                          "tcp :9088 at tcp 127.0.0.1:9088",
		"0.0.0.0:9088":                   "tcp4 0.0.0.0:9088 at tcp 127.0.0.1:9088",
		"[::]:9088":                      "tcp6 [::]:9088 at tcp [::1]:9088",
		"[fe80::1%eth0]:9088":            "tcp6 [fe80::1%eth0]:9088 at tcp [fe80::1%eth0]:9088",
		"router.example:09088":           "tcp router.example:9088 at tcp router.example:9088",
		"unix:///run/promflow.sock":      "unix unix:///run/promflow.sock at unix /run/promflow.sock",
		" 10.0.0.1:1 , unix:///a b ,:2 ": "tcp4 10.0.0.1:1 at tcp 10.0.0.1:1; unix unix:///a b at unix /a b; tcp :2 at tcp 127.0.0.1:2",
		"none":                           "",
	} {
		all, err := ParseAddresses(text)
		var got []string
		for _, a := range all {
			network, local := a.Local()
			got = append(got, fmt.Sprintf("%s %s at %s %s", a.Network, a, network, local))
		}
		if joined := strings.Join(got, "; "); err != nil || joined != want {
			t.Errorf("%q is %q (%v), want %q", text, joined, err, want)
		}
	}
	for _, text := range []string{"", "9088", ":9088,", "none,:9088", "::1:9088", ":http", ":65536", ":-1", "unix://run", "unix:/run/x", "http://x:1"} {
		if all, err := ParseAddresses(text); err == nil {
			t.Errorf("%q is %v, want an error", text, all)
		}
	}
}

// TestServesAtEachAddressAsWritten serves at some addresses, and asks at others.
func TestServesAtEachAddressAsWritten(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "promflow.sock")
	port := func(l net.Listener) string {
		at := l.Addr()
		if all, ok := at.(addrs); ok {
			at = all[0]
		}
		_, port, err := net.SplitHostPort(at.String())
		if err != nil {
			t.Fatal(err)
		}
		return port
	}
	for _, c := range []struct {
		at               string
		ipv4, ipv6, unix bool
	}{
		{"0.0.0.0:0", true, false, false},
		{"[::]:0", false, true, false},
		{":0", true, true, false},
		{"127.0.0.1:0,unix://" + socket, true, false, true},
		{"[::1]:0,unix://" + socket, false, true, true}, // the file is there from before
	} {
		addresses, err := ParseAddresses(c.at)
		if err != nil {
			t.Fatal(err)
		}
		config := Config{Addresses: addresses, SocketMode: 0o620, AddressFrom: "--metrics-address"}
		l, err := Listen(config, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatalf("%s: %v", c.at, err)
		}
		s := New(config, l, http.NotFoundHandler(), nil, slog.New(slog.DiscardHandler))
		ended := make(chan error)
		go func() { ended <- s.Serve() }()
		for _, ask := range []struct {
			network, address string
			want             bool
		}{
			{"tcp", "127.0.0.1:" + port(l), c.ipv4}, {"tcp", "[::1]:" + port(l), c.ipv6}, {"unix", socket, c.unix},
		} {
			client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, ask.network, ask.address)
			}}}
			response, err := client.Get("http://localhost/-/healthy")
			answered := err == nil
			if answered {
				body, _ := io.ReadAll(response.Body)
				response.Body.Close()
				answered = string(body) == "OK\n"
			}
			if answered != ask.want {
				t.Errorf("%s answers at %s %s: %v (%v), want %v", c.at, ask.network, ask.address, answered, err, ask.want)
			}
		}
		if c.unix {
			info, err := os.Stat(socket)
			if err != nil || info.Mode().Perm() != 0o620 {
				t.Errorf("%s: the socket is %v (%v), want permissions 0620", c.at, info, err)
			}
			if _, err := Listen(config, slog.New(slog.DiscardHandler)); !errors.Is(err, syscall.EADDRINUSE) {
				t.Errorf("%s, twice: %v", c.at, err)
			}
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := <-ended; err != nil {
			t.Errorf("%s: %v", c.at, err)
		}
		if c.unix { // as after a crash
			stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket})
			if err != nil {
				t.Fatal(err)
			}
			stale.SetUnlinkOnClose(false)
			stale.Close()
		}
	}
}
