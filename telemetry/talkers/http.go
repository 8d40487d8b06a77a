package talkers

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// Path is the path of ServeHTTP, which Fetch requests.
const Path = "/api/v1/talkers"

// TopHeader is a header of requests that do not come from a browser: scripts of websites can set no header that begins with Sec-
// (https://fetch.spec.whatwg.org/#forbidden-request-header).
const TopHeader = "Sec-Promflow-Top"

// ServeHTTP answers with a Report in JSON. Wrong parameters are answered with 400 and what was expected.
func (t *Talkers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var q Query
	parameters, err := url.ParseQuery(r.URL.RawQuery)
	if err == nil {
		q, err = ParseQuery(parameters)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	body, err := t.answer(q).body()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(body) // fails only if the client has gone
}

// Limits of Fetch for a report. MaxLimit addresses take about 0.6 MB, as many devices with all
// the addresses that they may list 2 MB.
const (
	maxReport     = 4 << 20 // bytes
	maxInterfaces = 10000
	maxSubnets    = 10000
	maxSeconds    = 24 * 60 * 60
)

// errNoDevices says that a promflow does not know the parameter by, and ignored it.
var errNoDevices = errors.New("it is of an old version, which tells no devices")

// Fetch gets a Report from the promflow at a base URL, such as http://localhost:9088.
func Fetch(ctx context.Context, client *http.Client, base *url.URL, q Query) (*Report, error) {
	at := base.JoinPath(Path)
	at.RawQuery = q.Values().Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set(TopHeader, "1")
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxReport+1))
	r := new(Report)
	switch {
	case err != nil:
	case len(body) > maxReport:
		err = fmt.Errorf("the answer is no report of promflow: it has more than %d bytes", maxReport)
	case response.StatusCode == http.StatusNotFound:
		err = fmt.Errorf("%s is missing: it is no promflow, an old version, or one with --no-ui", Path)
	case response.StatusCode == http.StatusUnauthorized:
		err = errors.New("it requires a user and a password that it knows (see --http-config-file)")
	case response.StatusCode != http.StatusOK:
		err = fmt.Errorf("%s: %s", response.Status, strings.TrimSpace(string(body[:min(len(body), 200)])))
	default:
		if err = r.decode(body, q.canonical()); err != nil && !errors.Is(err, errNoDevices) {
			err = fmt.Errorf("the answer is no report of promflow: %w", err)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", base.Redacted(), err)
	}
	return r, nil
}

// decode decodes a report that answers q. The server may be any: a list is not decoded beyond its limit, since its elements
// can take a hundred times the memory of their JSON.
func (r *Report) decode(body []byte, q Query) error {
	lists := struct {
		*Report
		Interfaces json.RawMessage `json:"interfaces"` // instead of those of Report
		Monitored  json.RawMessage `json:"monitored_subnets"`
		Talkers    json.RawMessage `json:"talkers"`
	}{Report: r}
	if err := json.Unmarshal(body, &lists); err != nil {
		return err
	}
	if r.Time.IsZero() { // other JSON
		return errors.New("it has no time")
	}
	for name, seconds := range map[string]float64{"window_seconds": r.WindowSeconds, "interval_seconds": r.IntervalSeconds} {
		if seconds < 0 || seconds > maxSeconds {
			return fmt.Errorf("%s is %v", name, seconds)
		}
	}
	var err error
	if r.Interfaces, err = DecodeList[Interface](lists.Interfaces, maxInterfaces); err != nil {
		return fmt.Errorf("interfaces: %w", err)
	}
	if r.Monitored, err = DecodeList[Subnet](lists.Monitored, maxSubnets); err != nil {
		return fmt.Errorf("monitored_subnets: %w", err)
	}
	if r.Talkers, err = DecodeList[Talker](lists.Talkers, q.Limit); err != nil {
		return fmt.Errorf("talkers: %w", err)
	}
	for i := range r.Talkers {
		k := &r.Talkers[i]
		if k.ID == "" && q.By == ByDevice {
			return errNoDevices
		}
		k.ID = cmp.Or(k.ID, k.IP)
		if len(k.IPs) == 0 {
			k.IPs = IPs{k.IP}
		}
	}
	return nil
}

// DecodeList decodes a list of at most so many elements.
func DecodeList[T any](text json.RawMessage, limit int) (list []T, err error) {
	list = []T{} // an empty list is [] in JSON
	d := json.NewDecoder(bytes.NewReader(text))
	switch start, err := d.Token(); {
	case errors.Is(err, io.EOF) || err == nil && start == nil: // missing, or null
		return list, nil
	case err != nil || start != json.Delim('['):
		return nil, errors.New("expected a list")
	}
	for d.More() {
		if len(list) == limit {
			return nil, fmt.Errorf("expected %d at most", limit)
		}
		var element T
		if err := d.Decode(&element); err != nil {
			return nil, err
		}
		list = append(list, element)
	}
	return list, nil
}
