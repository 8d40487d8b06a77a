package usage

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"promflow/app/history"
	"promflow/telemetry/talkers"
)

// Path is the path of the handler, which Fetch requests.
const Path = "/api/v1/usage"

// Handler answers queries to a history with an Answer as JSON, CSV or text. Wrong parameters are answered with 400 and what was expected.
// Without a history, which is nil, all is answered with 404.
func Handler(h *history.History) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h == nil {
			http.Error(w, "no history is kept: start promflow with --data-dir=DIR", http.StatusNotFound)
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		var q Query
		parameters, err := url.ParseQuery(r.URL.RawQuery)
		if err == nil {
			q, err = ParseQuery(parameters)
		}
		output := parameters.Get("output")
		if output != "" && !slices.Contains(Outputs, output) {
			err = errors.Join(err, fmt.Errorf("output=%q: expected one of %s", output, strings.Join(Outputs, ", ")))
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		a, err := Of(h, q, time.Now())
		var body bytes.Buffer
		if err == nil {
			err = a.write(&body, output, w.Header())
		}
		switch wrong := (*PeriodError)(nil); {
		case errors.As(err, &wrong):
			http.Error(w, err.Error(), http.StatusBadRequest)
		case err != nil:
			w.Header().Set("Retry-After", "60")
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		default:
			_, _ = w.Write(body.Bytes()) // fails only if the client has gone
		}
	})
}

// write writes the answer in a format, and sets the headers that belong to it.
func (a *Answer) write(w io.Writer, output string, h http.Header) error {
	switch output {
	case "csv":
		h.Set("Content-Type", "text/csv; charset=utf-8; header=present")
		h.Set("Content-Disposition", `attachment; filename="`+a.FileName()+`"`)
		return a.CSV(w)
	case "text":
		h.Set("Content-Type", "text/plain; charset=utf-8")
		return a.Text(w, false)
	}
	h.Set("Content-Type", "application/json")
	return a.JSON(w)
}

// JSON writes the answer in one line.
func (a *Answer) JSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(a)
}

// Limits of Fetch for an answer. 65,536 rows take about 12 MB.
const (
	maxAnswer = 64 << 20 // bytes
	maxLists  = 1 << 20
)

// Fetch gets an Answer from the promflow at a base URL, such as http://localhost:9088.
func Fetch(ctx context.Context, client *http.Client, base *url.URL, q Query) (*Answer, error) {
	at := base.JoinPath(Path)
	at.RawQuery = q.values().Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set(talkers.TopHeader, "1")
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	text := strings.TrimSpace(string(body[:min(len(body), 500)]))
	a := new(Answer)
	switch {
	case err != nil:
	case len(body) > maxAnswer:
		err = fmt.Errorf("the answer has more than %d bytes: ask for fewer rows with --limit", maxAnswer)
	case response.StatusCode == http.StatusNotFound && strings.Contains(text, "--data-dir"):
		err = errors.New(text)
	case response.StatusCode == http.StatusNotFound:
		err = fmt.Errorf("%s is missing: it is no promflow, an old version, or one with --no-ui", Path)
	case response.StatusCode == http.StatusUnauthorized:
		err = errors.New("it requires a user and a password that it knows (see --http-config-file)")
	case response.StatusCode == http.StatusBadRequest:
		err = errors.New(text)
	case response.StatusCode != http.StatusOK:
		err = fmt.Errorf("%s: %s", response.Status, text)
	default:
		if err = a.decode(body); err != nil {
			err = fmt.Errorf("the answer is no usage of promflow: %w", err)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", base.Redacted(), err)
	}
	return a, nil
}

// decode decodes an answer. The server may be any: see [talkers.DecodeList].
func (a *Answer) decode(body []byte) error {
	lists := struct {
		*Answer
		Rows  json.RawMessage `json:"rows"` // instead of those of Answer
		Steps json.RawMessage `json:"steps"`
	}{Answer: a}
	err := json.Unmarshal(body, &lists)
	if err == nil && (a.From.IsZero() || !slices.Contains(Kinds, a.By)) { // other JSON
		err = errors.New("it has no span of time")
	}
	if err == nil {
		a.Rows, err = talkers.DecodeList[Row](lists.Rows, maxLists)
	}
	if err == nil {
		a.Steps, err = talkers.DecodeList[Step](lists.Steps, maxLists)
	}
	return err
}
