package e2e

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"promflow/capture/nettest"
)

// TestWrongPasswords has many clients try passwords, most of which do not wait for the answer, while somebody scrapes who has the right one.
func TestWrongPasswords(t *testing.T) {
	const tries, patience, cost = 400, time.Second, 8 // a cost of 10 with the race detector is as one of 14
	hash, err := bcrypt.GenerateFromPassword([]byte("open sesame"), cost)
	if err != nil {
		t.Fatal(err)
	}
	users := fmt.Sprintf("basic_auth_users: {ali: %q, cassim: %q}\n", hash, hash)
	certificate, key, pool := selfSigned(t)
	for protocol, config := range map[string]string{
		"HTTP/1.1": users,
		"HTTP/2":   users + fmt.Sprintf("tls_server_config: {cert_file: %s, key_file: %s}\n", certificate, key),
	} {
		t.Run(protocol, func(t *testing.T) {
			ns := nettest.NewNamespace(t)
			p := serve(t, ns, "--interface=lo", "--monitor-subnets=10.0.0.0/8", "--web-config-file="+write(t, "web.yml", config))
			url := "http://" + p.address + "/metrics"
			if protocol == "HTTP/2" {
				url = "https://" + p.address + "/metrics"
			}
			newClient := func() *http.Client {
				transport := &http.Transport{DialContext: ns.Dial, TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}
				t.Cleanup(transport.CloseIdleConnections)
				return &http.Client{Transport: transport}
			}
			log := func(client *http.Client, ctx context.Context, user, password string) (status int, err error) {
				r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
				if err != nil {
					return 0, err
				}
				r.SetBasicAuth(user, password)
				response, err := client.Do(r)
				if err != nil {
					return 0, err
				}
				defer response.Body.Close()
				if response.Proto[:6] != protocol[:6] {
					return 0, fmt.Errorf("%s is spoken", response.Proto)
				}
				_, err = io.Copy(io.Discard, response.Body)
				return response.StatusCode, err
			}
			scraper := newClient()
			if status, err := log(scraper, t.Context(), "ali", "open sesame"); status != 200 {
				t.Fatalf("the right password: %d, %v", status, err)
			}

			var all sync.WaitGroup
			var left, refused, scrapes, delayed atomic.Int64
			stop := make(chan struct{})
			all.Go(func() {
				for done := false; !done; {
					begin := time.Now()
					if status, err := log(scraper, t.Context(), "ali", "open sesame"); status != 200 {
						t.Errorf("the right password meanwhile: %d, %v", status, err)
					}
					scrapes.Add(1)
					if time.Since(begin) > patience {
						delayed.Add(1)
					}
					select {
					case <-stop:
						done = true
					case <-time.After(patience / 10):
					}
				}
			})
			var triers sync.WaitGroup
			for trier := range 20 {
				triers.Go(func() {
					client := newClient()
					for i := range tries / 20 {
						ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
						if i%10 == 0 {
							cancel() // and this one waits
							ctx, cancel = context.WithTimeout(t.Context(), deadline)
						}
						switch status, err := log(client, ctx, "ali", fmt.Sprint("open barley ", trier, i)); {
						case errors.Is(err, context.DeadlineExceeded):
							left.Add(1)
						case status == http.StatusTooManyRequests:
							refused.Add(1)
						case status != http.StatusUnauthorized:
							t.Errorf("a wrong password: %d, %v", status, err)
						}
						cancel()
					}
				})
			}
			triers.Wait()
			close(stop)
			all.Wait()
			if delayed.Load() > scrapes.Load()/4 { // the machine may be busy now and then
				t.Errorf("the right password was not answered within %v, %d times of %d", patience, delayed.Load(), scrapes.Load())
			}
			if left.Load() == 0 || refused.Load() == 0 {
				t.Errorf("%d clients have left, %d were refused: this test shows nothing", left.Load(), refused.Load())
			}
			// Nobody waits any more.
			begin := time.Now()
			if status, err := log(newClient(), t.Context(), "cassim", "open sesame"); status != 200 || time.Since(begin) > 5*patience {
				t.Errorf("another right password: %d, %v after %v", status, err, time.Since(begin))
			}
			p.terminate()
		})
	}
}

// TestPasswordsThatGoMissing has the web configuration lose its users, and get them back.
func TestPasswordsThatGoMissing(t *testing.T) {
	hash, err := bcrypt.GenerateFromPassword([]byte("open sesame"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	users := fmt.Sprintf("basic_auth_users: {ali: %q}\n", hash)
	file := write(t, "web.yml", users)
	ns := nettest.NewNamespace(t)
	p := serve(t, ns, "--interface=lo", "--monitor-subnets=10.0.0.0/8", "--web-config-file="+file)
	client := &http.Client{Transport: &http.Transport{DialContext: ns.Dial, DisableKeepAlives: true}}
	for _, c := range []struct {
		config, user string
		status       int
	}{
		{"", "", 500}, // before the first request
		{users, "ali", 200}, {users, "", 401},
		{"", "ali", 500}, {"", "", 500},
		{"basic_auth_users: {}\n", "ali", 500}, {"not: yaml: [", "ali", 500}, {"http_server_config: {http2: false}\n", "", 500},
		{users, "ali", 200}, {users, "", 401},
	} {
		if err := os.WriteFile(file, []byte(c.config), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{"/metrics", "/", "/api/v1/talkers", "/-/healthy"} {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+p.address+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			if c.user != "" {
				r.SetBasicAuth(c.user, "open sesame")
			}
			response, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
			if response.StatusCode != c.status {
				t.Errorf("%q, user %q, %s: got %d, want %d", c.config, c.user, path, response.StatusCode, c.status)
			}
		}
	}
	p.terminate()
}
