// Package status says in JSON what promflow counts, and whether all is well.
package status

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/prometheus/common/version"

	"promflow/telemetry"
	"promflow/telemetry/talkers"
)

// Path is where the handler is served.
const Path = "/api/v1/status"

// Status is the answer.
type Status struct {
	Version    string           `json:"version"`
	Monitored  []talkers.Subnet `json:"monitored_subnets"`
	Interfaces []Interface      `json:"interfaces"`
	// Addresses is the number of addresses on the page, AddressesLimit the table's room for addresses.
	Addresses      int64  `json:"addresses"`
	AddressesLimit int64  `json:"addresses_limit"`
	Reload         Reload `json:"reload"`
}

// Interface is the state of the capture on an interface.
type Interface struct {
	Name    string `json:"name"`
	Backend string `json:"backend"`
	Up      bool   `json:"up"`
	Dropped int64  `json:"dropped_packets"`
}

// Reload is how the last reload of settings ended. The start is the first one.
type Reload struct {
	Successful  bool      `json:"successful"`
	LastSuccess time.Time `json:"last_success"`
}

// Handler answers with the Status of the reading that read returns.
func Handler(read func() telemetry.Reading) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		body, err := json.Marshal(of(read()))
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		_, _ = w.Write(append(body, '\n')) // fails only if the client has gone
	})
}

func of(r telemetry.Reading) Status {
	s := Status{
		Version:   version.Version,
		Monitored: talkers.Monitored(r), Interfaces: []Interface{},
		Addresses: r.Tracked, AddressesLimit: r.Limit,
	}
	if r.Reload != nil {
		s.Reload = Reload{r.Reload.Successful, r.Reload.Succeeded}
	}
	for _, i := range r.Interfaces {
		s.Interfaces = append(s.Interfaces, Interface{i.Label(), i.Backend, i.Up, i.Dropped})
	}
	return s
}
