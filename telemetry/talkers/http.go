package talkers

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// Path is where ServeHTTP is found, and Fetch looks for it.
const Path = "/api/v1/talkers"

// ServeHTTP answers with a Report in JSON. What cannot be read of the parameters is answered with 400 and a line that says what
// was expected.
func (t *Talkers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	parameters, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	q, err := ParseQuery(parameters)
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
	_, _ = w.Write(append(body, '\n')) // an error is the client's, who is gone
}

// maxReport is how long a report can be, in bytes: MaxLimit talkers with all that belongs to them are some 0.5 MB.
const maxReport = 8 << 20

// Fetch asks the promflow at a base URL, such as http://localhost:9088.
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
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %w", base.Redacted(), err)
	case response.StatusCode == http.StatusNotFound:
		return nil, fmt.Errorf("%s: %s is not there: it is no promflow, an old one, or one with --no-ui", base.Redacted(), Path)
	case response.StatusCode == http.StatusUnauthorized:
		return nil, fmt.Errorf("%s: it asks for a user and a password that it knows (see --http-config-file)", base.Redacted())
	case response.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("%s: %s: %s", base.Redacted(), response.Status, strings.TrimSpace(string(body[:min(len(body), 200)])))
	}
	r := new(Report)
	if err := json.Unmarshal(body, r); err != nil {
		return nil, fmt.Errorf("%s: no report of promflow: %w", base.Redacted(), err)
	}
	if r.Time.IsZero() { // JSON of something else, which would never have rates
		return nil, fmt.Errorf("%s: no report of promflow", base.Redacted())
	}
	return r, nil
}
