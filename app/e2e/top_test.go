package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestTopErrors has top refuse what is wrong, in one line.
func TestTopErrors(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/secret/", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) })
	mux.HandleFunc("/page/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") })
	mux.HandleFunc("/json/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"status":"success"}`) })
	mux.HandleFunc("/ill/", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "all is\nlost\x1b[31m", http.StatusInternalServerError)
	})
	const report = `{"time":"2026-01-01T00:00:00Z","interval_seconds":2,"window_seconds":`
	mux.HandleFunc("/many/", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, report, `4,"talkers":[`, strings.Repeat("{},", 1_300_000), "{}]}")
	})
	mux.HandleFunc("/negative/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, report, "-4}") })
	mux.HandleFunc("/old/", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, report, `4,"talkers":[{"ip":"10.0.0.1"}]}`)
	})
	mux.HandleFunc("/ips/", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, report, `4,"talkers":[{"id":"a","ips":[`, strings.Repeat(`"",`, 1_300_000), `""]}]}`)
	})
	server := httptest.NewServer(mux)
	defer server.Close()
	config := write(t, "http.yml", "basic_auth: {username: ali}\ntls: 1\n")
	own := maxResidentHere() // of which a process begins with as much
	lo := loopback(t)
	for name, c := range map[string]struct {
		args []string
		want []string
	}{
		"a scheme that is none":        {[]string{"ftp://router"}, []string{`"ftp://router"`, "http://router:9088"}},
		"no promflow":                  {[]string{server.URL}, []string{server.URL, "no promflow", "--no-ui"}},
		"another page":                 {[]string{server.URL + "/page"}, []string{"no report of promflow"}},
		"something else in JSON":       {[]string{server.URL + "/json"}, []string{"no report of promflow"}},
		"more than was asked for":      {[]string{server.URL + "/many"}, []string{"no report of promflow", "talkers: expected 50 at most"}},
		"a window in the future":       {[]string{server.URL + "/negative"}, []string{"no report of promflow", "window_seconds is -4"}},
		"a password is missing":        {[]string{server.URL + "/secret"}, []string{"a user and a password", "--http-config-file"}},
		"an error there":               {[]string{server.URL + "/ill"}, []string{"500", "all is lost"}},
		"two URLs":                     {[]string{"router", "switch"}, []string{`"switch"`, "one URL"}},
		"a flag behind the URL":        {[]string{"router", "--bytes"}, []string{`"--bytes"`, "flags come before it"}},
		"a URL and an interface":       {[]string{"--interface", lo, "router"}, []string{`"router"`, "--interface", "exclude each other"}},
		"a configuration for nobody":   {[]string{"--interface", lo, "--http-config-file=" + config}, []string{"--http-config-file", "--interface counts here"}},
		"subnets for nobody":           {[]string{"--monitor-subnets=10.0.0.0/8", "router"}, []string{"--monitor-subnets", "--interface"}},
		"a flag of the page":           {[]string{"--metrics-address=:1"}, []string{"-metrics-address", "promflow top --help"}},
		"a grouping that is none":      {[]string{"--by=mac"}, []string{`--by "mac"`, "ip, device"}},
		"devices of an old version":    {[]string{"--by=device", server.URL + "/old"}, []string{server.URL + "/old", "an old version"}},
		"more addresses than can be":   {[]string{"--by=device", server.URL + "/ips"}, []string{"no report of promflow", "ips: expected 32 at most"}},
		"an order that is none":        {[]string{"--sort=speed"}, []string{`--sort "speed"`, "receive_rate"}},
		"a filter that is none":        {[]string{"--filter=\xff"}, []string{"--filter", "253 bytes of UTF-8"}},
		"less than nothing":            {[]string{"--count=-1"}, []string{`--count "-1"`}},
		"too many":                     {[]string{"--limit=1001"}, []string{`--limit "1001"`, "1000"}},
		"another format":               {[]string{"--output=xml"}, []string{`--output "xml"`, "text, json"}},
		"a configuration that is none": {[]string{"--http-config-file=" + config, "router"}, []string{"--http-config-file", config, "tls"}},
		"no such configuration":        {[]string{"--http-config-file=nosuch.yml", "router"}, []string{"--http-config-file", `"nosuch.yml"`}},
		"subnets that are none":        {[]string{"--interface", lo, "--monitor-subnets=router"}, []string{"--monitor-subnets", `"router"`}},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := promflow(t, append([]string{"top"}, c.args...)...)
			line, printed := fails(t, cmd)
			if took := maxResident(cmd.ProcessState); took > max(512<<10, own) { // with the race detector, else 80 MB
				t.Errorf("it took %d kB", took)
			}
			for _, want := range c.want {
				if !strings.Contains(line, want) || printed != "" {
					t.Errorf("said %q and printed %q, want %q", line, printed, want)
				}
			}
			if strings.Contains(line, "\x1b") {
				t.Errorf("said %q", line)
			}
		})
	}
	t.Run("a configuration for others is in the environment", func(t *testing.T) {
		cmd := promflow(t, "top", "--interface=nosuch0")
		cmd.Env = append(cmd.Env, "PROMFLOW_HTTP_CONFIG_FILE="+config)
		if line, _ := fails(t, cmd); !strings.Contains(line, `--interface "nosuch0"`) {
			t.Errorf("said %q", line)
		}
	})
	t.Run("a flag of the page before the command", func(t *testing.T) {
		if line, _ := fails(t, promflow(t, "--metrics-address=:1", "top")); !strings.Contains(line, "--metrics-address means nothing to this command") {
			t.Errorf("said %q", line)
		}
	})
}
