package web

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
)

// TestAnswersOnlyItsOwnSite asks as browsers do, on behalf of this server's page and of other websites.
func TestAnswersOnlyItsOwnSite(t *testing.T) {
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	secret := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "secret") })
	server := httptest.NewServer(answers(Config{Hosts: []string{"promflow.example.net"}}.routes(secret, map[string]API{"/api/v1/talkers": {secret, 1}}), deadline))
	defer server.Close()
	for _, c := range []struct {
		name, host, site, mode string
		page, api              int // status
	}{
		{name: "IPv4", host: "192.0.2.1:9088", page: 200, api: 200},
		{name: "IPv6", host: "[2001:db8::1]:9088", page: 200, api: 200},
		{name: "IPv6 without a port", host: "[2001:db8::1]", page: 200, api: 200},
		{name: "IPv6 with a zone", host: "[fe80::1%eth0]:9088", page: 200, api: 200},
		{name: "localhost", host: "localhost:9088", page: 200, api: 200},
		{name: "the hostname", host: name + ":9088", page: 200, api: 200},
		{name: "the hostname in mDNS", host: strings.ToUpper(strings.Split(name, ".")[0]) + ".local", page: 200, api: 200},
		{name: "a name that was given", host: "Promflow.Example.NET.:443", page: 200, api: 200},
		{name: "another name", host: "attacker.example:9088", page: 403, api: 403},
		{name: "a name that begins like the hostname", host: name + ".attacker.example:9088", page: 403, api: 403},
		{name: "a name that begins like an address", host: "192.0.2.1.attacker.example", page: 403, api: 403},
		{name: "the page's own script", host: "192.0.2.1:9088", site: "same-origin", mode: "cors", page: 200, api: 200},
		{name: "another website's script", host: "192.0.2.1:9088", site: "cross-site", mode: "no-cors", page: 403, api: 403},
		{name: "a link on another website", host: "192.0.2.1:9088", site: "cross-site", mode: "navigate", page: 200, api: 403},
	} {
		t.Run(c.name, func(t *testing.T) {
			for path, want := range map[string]int{"/": c.page, "/api/v1/talkers": c.api, "/metrics": 200, "/-/healthy": 200, "/-/ready": 200} {
				status, _, body := ask(t, "GET", server.URL+path, func(r *http.Request) {
					r.Host = c.host
					r.Header.Set("Sec-Fetch-Site", c.site)
					r.Header.Set("Sec-Fetch-Mode", c.mode)
				})
				if status != want || want != 200 && strings.Contains(body, "secret") {
					t.Errorf("%s: got %d %s, want %d", path, status, body, want)
				}
			}
		})
	}
}

// TestReadsOnly has other methods refused, and browsers told not to guess.
func TestReadsOnly(t *testing.T) {
	ok := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "OK") })
	for _, noUI := range []bool{false, true} {
		server := httptest.NewServer(answers(withoutBody(Config{NoUI: noUI}.routes(ok, map[string]API{"/api/v1/talkers": {ok, 1}})), deadline))
		defer server.Close()
		for method, want := range map[string]int{"GET": 200, "HEAD": 200, "POST": 405, "PUT": 405, "DELETE": 405, "OPTIONS": 405, "TRACE": 405} {
			for _, path := range []string{"/metrics", "/api/v1/talkers"} {
				if noUI && path != "/metrics" {
					continue
				}
				for _, body := range []string{"", "a=1"} {
					want := want
					if body != "" && want == 200 {
						want = 413
					}
					status, header, _ := ask(t, method, server.URL+path, func(r *http.Request) {
						r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
					})
					if status != want || header.Get("X-Content-Type-Options") != "nosniff" || (header.Get("Allow") != "") != (want == 405) {
						t.Errorf("%s %s with body %q: got %d, %v, want %d", method, path, body, status, header, want)
					}
				}
			}
		}
	}
}

// ask makes a request, and returns the answer.
func ask(t *testing.T, method, url string, change func(*http.Request)) (status int, header http.Header, body string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	change(r)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, response.Header, string(text)
}
