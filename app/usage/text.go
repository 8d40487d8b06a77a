package usage

import (
	"cmp"
	"fmt"
	"io"
	"strings"

	"promflow/app/top"
)

// Text writes the answer as a table, with the sums of its rows. ascii has it write nothing else.
func (a *Answer) Text(w io.Writer, ascii bool) error {
	const layout = "2006-01-02 15:04"
	head := fmt.Sprintf("%s to %s", a.From.Format(layout), a.To.Format(layout+" -07:00"))
	if a.To.After(a.Time) && !a.From.After(a.Time) {
		head = fmt.Sprintf("%s until now, %s", a.From.Format(layout), a.Time.Format(layout+" -07:00"))
	}
	if a.Since.After(a.From) {
		head += "; the history began at " + a.Since.Format(layout)
	}
	titles := map[string][]string{"device": {"DEVICE", "ADDRESS", "NETWORK"}, "ip": {"ADDRESS", "NAME", "NETWORK"}, "network": {"NETWORK", "", ""}}
	rows := [][]string{append(titles[a.By], "RECEIVED", "TRANSMITTED", "TOTAL", "SHARE")}
	all := a.ReceiveBytes + a.TransmitBytes
	hasNetwork := false
	figures := func(receive, transmit int64) []string {
		share := "-"
		if all > 0 {
			share = top.Share(float64(receive+transmit) / float64(all))
		}
		return []string{top.Size(receive), top.Size(transmit), top.Size(receive + transmit), share}
	}
	for i := range a.Rows {
		r := &a.Rows[i]
		hasNetwork = hasNetwork || r.Network != ""
		rows = append(rows, append(r.names(a.By), figures(r.ReceiveBytes, r.TransmitBytes)...))
	}
	total := "TOTAL"
	if more := a.Matching - len(a.Rows); more > 0 {
		total = fmt.Sprintf("TOTAL of %d, also those not shown", a.Matching)
	}
	rows = append(rows, append([]string{total, "", ""}, figures(a.ReceiveBytes, a.TransmitBytes)...))
	for i, row := range rows {
		switch {
		case a.By == "network":
			rows[i] = append(row[:1], row[3:]...)
		case !hasNetwork:
			rows[i] = append(row[:2], row[3:]...)
		}
	}
	_, err := fmt.Fprintf(w, "%s\n\n%s", head, top.Columns(rows, len(rows[0])-4, ascii))
	return err
}

// names are the first cells of a row.
func (r *Row) names(by string) []string {
	switch by {
	case "network":
		return []string{r.ID, "", ""}
	case "ip":
		return []string{r.ID, r.Hostname, r.Network}
	}
	name := cmp.Or(r.Hostname, r.ID)
	addresses := strings.Join(r.IPs[:min(len(r.IPs), 1)], "")
	switch n := len(r.IPs); {
	case addresses == name:
		addresses = ""
	case n == maxIPs:
		addresses = fmt.Sprintf("%s and %d or more", addresses, n-1)
	case n > 1:
		addresses = fmt.Sprintf("%s and %d more", addresses, n-1)
	}
	return []string{name, addresses, r.Network}
}
