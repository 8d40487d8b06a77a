package talkers

import (
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
	body, err := json.Marshal(t.Report(q))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(append(body, '\n')) // fails only if the client has gone
}

// maxReport bounds the size of a report in bytes. MaxLimit talkers take about 0.5 MB.
const maxReport = 8 << 20

// Fetch gets a Report from the promflow at a base URL, such as http://localhost:9088.
func Fetch(ctx context.Context, client *http.Client, base *url.URL, q Query) (*Report, error) {
	at := base.JoinPath(Path)
	at.RawQuery = q.Values().Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxReport))
	r := new(Report)
	switch {
	case err != nil:
	case response.StatusCode == http.StatusNotFound:
		err = fmt.Errorf("%s is missing: it is no promflow, an old version, or one with --no-ui", Path)
	case response.StatusCode == http.StatusUnauthorized:
		err = errors.New("it requires a user and a password that it knows (see --http-config-file)")
	case response.StatusCode != http.StatusOK:
		err = fmt.Errorf("%s: %s", response.Status, strings.TrimSpace(string(body[:min(len(body), 200)])))
	default:
		if err = json.Unmarshal(body, r); err == nil && r.Time.IsZero() { // other JSON
			err = errors.New("it has no time")
		}
		if err != nil {
			err = fmt.Errorf("the answer is no report of promflow: %w", err)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", base.Redacted(), err)
	}
	return r, nil
}
