package e2e

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"
)

func TestHealth(t *testing.T) {
	cert, key, _ := selfSigned(t)
	hash, err := bcrypt.GenerateFromPassword([]byte("x"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	plain := serveCounts(t, contractTraffic(), "")
	secured := serveCounts(t, contractTraffic(), write(t, "web.yml", fmt.Sprintf(
		"tls_server_config: {cert_file: %q, key_file: %q}\nbasic_auth_users: {ali: %q}\n", cert, key, hash)))
	asking := serveCounts(t, contractTraffic(), write(t, "web.yml", fmt.Sprintf(
		"tls_server_config: {cert_file: %q, key_file: %q, client_auth_type: RequireAndVerifyClientCert, client_ca_file: %q}\n", cert, key, cert)))
	another := httptest.NewServer(http.NotFoundHandler())
	defer another.Close()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody.Close()
	_, port, _ := net.SplitHostPort(plain)
	for name, c := range map[string]struct {
		address string // in the variable, as a container has it
		args    []string
		want    string // in the error; without any all is well
	}{
		"well":                  {address: plain},
		"on all addresses":      {address: ":" + port},
		"on all IPv4 addresses": {address: "0.0.0.0:" + port},
		"by flag":               {args: []string{"--metrics-address=" + plain}},
		"by URL":                {args: []string{"http://" + plain}},
		"by host and port":      {args: []string{plain}},
		"TLS and a password":    {address: secured},
		"client certificates":   {address: asking},
		"nobody there":          {address: nobody.Addr().String(), want: "connection refused"},
		"no answer":             {address: silent.Addr().String(), args: []string{"--timeout=100ms"}, want: "deadline exceeded"},
		"another program":       {address: another.Listener.Addr().String(), want: "404 Not Found"},
		"TLS by URL, unknown":   {args: []string{"https://" + secured}, want: "certificate signed by unknown authority"},
		"TLS by URL, but plain": {args: []string{"http://" + secured}, want: "HTTPS only"},
		"nothing is served":     {address: "none", want: "PROMFLOW_METRICS_ADDRESS none"},
		"no address":            {address: "9088", want: `PROMFLOW_METRICS_ADDRESS "9088"`},
		"two URLs":              {args: []string{plain, plain}, want: "it takes one URL"},
		"a flag of the capture": {args: []string{"--interface=lo"}, want: "promflow health --help"},
		"a configuration":       {address: plain, args: []string{"--http-config-file=nosuch.yml"}, want: `"nosuch.yml"`},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := promflow(t, append([]string{"health"}, c.args...)...)
			cmd.Env = append(cmd.Env, "PROMFLOW_METRICS_ADDRESS="+c.address)
			if c.want != "" {
				if line, printed := fails(t, cmd); !strings.Contains(line, c.want) || printed != "" {
					t.Errorf("said %q and printed %q, want %q", line, printed, c.want)
				}
				return
			}
			var out bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &out
			if err := runWithin(cmd); err != nil || out.String() != "OK\n" {
				t.Errorf("%v, said %q", err, &out)
			}
		})
	}
}
