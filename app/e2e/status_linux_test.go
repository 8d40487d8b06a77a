package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"promflow/app/live"
	"promflow/capture/nettest"
)

// status is what scripts read. Its tags are the contract's.
type status struct {
	Version   string `json:"version"`
	Monitored []struct {
		Subnet  string `json:"subnet"`
		Network string `json:"network"`
	} `json:"monitored_subnets"`
	Interfaces []struct {
		Name    string `json:"name"`
		Backend string `json:"backend"`
		Up      bool   `json:"up"`
		Dropped int64  `json:"dropped_packets"`
	} `json:"interfaces"`
	Addresses      int64 `json:"addresses"`
	AddressesLimit int64 `json:"addresses_limit"`
	Reload         struct {
		Successful  bool      `json:"successful"`
		LastSuccess time.Time `json:"last_success"`
	} `json:"reload"`
}

func (p *program) status() (s status) {
	p.t.Helper()
	decoder := json.NewDecoder(strings.NewReader(p.get("/api/v1/status")))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&s); err != nil {
		p.t.Fatal(err)
	}
	return s
}

// TestStatus follows the status of a program as traffic, reloads and the state of its interface change it.
func TestStatus(t *testing.T) {
	printed, err := promflow(t, "version").Output()
	nettest.Check(t, err)
	version := strings.Fields(string(printed))[1]
	for _, backend := range live.Backends() {
		t.Run(backend, func(t *testing.T) {
			here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
			here.Veth("a0", there, "a0")
			file := write(t, "subnets", "10.0.0.0/8\n")
			p := serve(t, here, "--interface=a0", "--capture="+backend, "--monitor-subnets=lan=198.51.100.0/24,@"+file, "--max-ips=77", "--enable-lifecycle")
			began := time.Now()
			text := func(up bool, addresses int, successful bool, subnets string) (want status) {
				t.Helper()
				nettest.Check(t, json.Unmarshal(fmt.Appendf(nil, `{"version": %q, "interfaces": [{"name": "a0", "backend": %q, "up": %v, "dropped_packets": 0}],
					"addresses": %d, "addresses_limit": 77, "reload": {"successful": %v},
					"monitored_subnets": [{"subnet": "198.51.100.0/24", "network": "lan"}, {"subnet": %q, "network": %q}]}`,
					version, backend, up, addresses, successful, subnets, subnets), &want))
				return want
			}
			// expect waits for a status, and returns when settings were last right.
			expect := func(why string, want status) (last time.Time) {
				t.Helper()
				eventually(t, func() error {
					got := p.status()
					last, got.Reload.LastSuccess = got.Reload.LastSuccess, time.Time{}
					if !reflect.DeepEqual(got, want) {
						return fmt.Errorf("%s: the status is %+v, want %+v", why, got, want)
					}
					return nil
				})
				return last
			}
			change := func(content string, code int) {
				t.Helper()
				nettest.Check(t, os.WriteFile(file, []byte(content), 0o600))
				if got, body := post(t, p); got != code {
					t.Errorf("a reload of %q: %d, %s", content, got, body)
				}
			}
			first := expect("at first", text(true, 0, true, "10.0.0.0/8"))
			if first.After(began) || began.Sub(first) > deadline {
				t.Errorf("settings were right at %v, want the program's start, before %v", first, began)
			}
			sendOn(t, there, "a0", 3)
			expect("after packets of an address", text(true, 1, true, "10.0.0.0/8"))
			change("10.0.0.0/33\n", http.StatusInternalServerError)
			if last := expect("a wrong file", text(true, 1, false, "10.0.0.0/8")); !last.Equal(first) {
				t.Errorf("settings were last right at %v, want %v, as before the wrong file", last, first)
			}
			change("10.0.0.0/9\n", http.StatusOK)
			if last := expect("a file that is right again", text(true, 1, true, "10.0.0.0/9")); !last.After(first) {
				t.Errorf("settings were last right at %v, want a time after %v", last, first)
			}
			here.IP("link", "set", "a0", "down")
			expect("the interface is down", text(false, 1, true, "10.0.0.0/9"))
			here.IP("link", "set", "a0", "up")
			expect("the interface is up again", text(true, 1, true, "10.0.0.0/9"))
			p.terminate()
		})
	}
}
