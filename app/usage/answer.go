// Package usage says who has received and transmitted how much in a span of time: as JSON for the API and the page, as CSV, and as a table.
package usage

import (
	"encoding/csv"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"promflow/app/history"
)

// Answer is the answer to a query. Times have the offset of the zone whose days and months they are.
type Answer struct {
	Time          time.Time `json:"time"`
	Since         time.Time `json:"since"` // when the history began
	From          time.Time `json:"from"`
	To            time.Time `json:"to"` // may be later than Time
	By            string    `json:"by"`
	ReceiveBytes  int64     `json:"receive_bytes"`
	TransmitBytes int64     `json:"transmit_bytes"`
	Matching      int       `json:"matching"` // rows without Limit and Offset; the sums are over these
	Rows          []Row     `json:"rows"`
	Steps         []Step    `json:"steps"` // of all rows, whatever the filter is
}

// Row is what a device, an address or a network moved.
type Row struct {
	ID            string   `json:"id"` // for Query.Of
	Hostname      string   `json:"hostname"`
	MAC           string   `json:"mac"`
	Network       string   `json:"network"`
	IPs           []string `json:"ips"` // the first maxIPs
	ReceiveBytes  int64    `json:"receive_bytes"`
	TransmitBytes int64    `json:"transmit_bytes"`
}

// Step is what was moved in a part of the span.
type Step struct {
	Start         time.Time `json:"start"`
	End           time.Time `json:"end"`
	ReceiveBytes  int64     `json:"receive_bytes"`
	TransmitBytes int64     `json:"transmit_bytes"`
}

// maxIPs is how many addresses of a row are listed.
const maxIPs = 32

// Of answers a query from a history.
func Of(h *history.History, q Query, now time.Time) (*Answer, error) {
	q = q.canonical()
	from, to, err := Span(q.Period, now, h.Calendar())
	if err != nil {
		return nil, &PeriodError{q.Period, err}
	}
	u, err := h.Usage(history.Query{From: from, To: to, By: history.By(slices.Index(Kinds, q.By)), Of: q.Of, Steps: history.Fitting})
	if err != nil {
		return nil, err
	}
	zone := h.Calendar().Zone
	a := &Answer{
		Time: now.In(zone), Since: u.Since.In(zone), From: u.From.In(zone), To: u.To.In(zone), By: q.By,
		Rows: []Row{}, Steps: make([]Step, 0, len(u.Steps)),
	}
	found := q.find(u.Rows)
	a.Matching = len(found)
	for i := range found {
		a.ReceiveBytes += found[i].Receive
		a.TransmitBytes += found[i].Transmit
	}
	found = found[min(q.Offset, len(found)):]
	if q.Limit > 0 {
		found = found[:min(q.Limit, len(found))]
	}
	ips := maxIPs
	if q.By == "network" { // whose addresses are only to be searched
		ips = 0
	}
	for i := range found {
		a.Rows = append(a.Rows, rowOf(&found[i], ips))
	}
	for _, s := range u.Steps {
		a.Steps = append(a.Steps, Step{s.Start.In(zone), s.End.In(zone), s.Receive, s.Transmit})
	}
	return a, nil
}

// rowOf returns a row with as many addresses at most.
func rowOf(r *history.Row, ips int) Row {
	valid := func(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }
	row := Row{
		ID: r.ID, Hostname: valid(r.Hostname), MAC: r.MAC, Network: valid(r.Network), IPs: []string{},
		ReceiveBytes: r.Receive, TransmitBytes: r.Transmit,
	}
	for _, at := range r.Addrs[:min(len(r.Addrs), ips)] {
		row.IPs = append(row.IPs, history.Text(at))
	}
	if r.Other {
		row.IPs = []string{r.ID}
	}
	return row
}

// PeriodError is a period that Span does not know.
type PeriodError struct {
	Period string
	Err    error
}

func (e *PeriodError) Error() string {
	return "period=" + strconv.Quote(e.Period) + ": " + e.Err.Error()
}

// CSV writes the rows, with the names of their columns. Lines end with a line feed: cut and awk would take a carriage return for a part of the
// last column, and spreadsheets read either.
func (a *Answer) CSV(w io.Writer) error {
	out := csv.NewWriter(w)
	_ = out.Write([]string{"id", "hostname", "mac", "network", "ips", "receive_bytes", "transmit_bytes"}) // Error has its error
	for i := range a.Rows {
		r := &a.Rows[i]
		_ = out.Write([]string{
			harmless(r.ID), harmless(r.Hostname), r.MAC, harmless(r.Network), strings.Join(r.IPs, " "),
			strconv.FormatInt(r.ReceiveBytes, 10), strconv.FormatInt(r.TransmitBytes, 10),
		})
	}
	out.Flush()
	return out.Error()
}

// harmless keeps a spreadsheet from taking a text for a formula: hosts choose their names
// (https://owasp.org/www-community/attacks/CSV_Injection).
func harmless(s string) string {
	if s != "" && strings.ContainsRune("=+-@\t\r", rune(s[0])) {
		return "'" + s
	}
	return s
}

// FileName is a name for the answer as CSV.
func (a *Answer) FileName() string {
	last := a.To.Add(-time.Nanosecond)
	return "promflow-usage-" + a.From.Format(time.DateOnly) + "-" + last.Format(time.DateOnly) + ".csv"
}
