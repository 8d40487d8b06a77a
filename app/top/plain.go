package top

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"promflow/telemetry/talkers"
)

// Ask answers a query.
type Ask func(context.Context, talkers.Query) (*talkers.Report, error)

// Options say what is shown, and how.
type Options struct {
	Watched string        // the promflow that is asked; empty if this process captures
	Query   talkers.Query // at the start; Offset and Limit are for Print only
	Bytes   bool          // rates are in bytes, not in bits
	ASCII   bool          // the output may only have ASCII
	JSON    bool          // Print writes reports as JSON
	Count   int           // how many reports Print writes; 0 is without end
}

// pollEvery is how often Print asks whether there is a new report.
const pollEvery = 250 * time.Millisecond

// maxWait is how long Print waits for a report with rates. They come every two seconds.
const maxWait = 30 * time.Second

// Print writes reports as text or JSON, each one once it has rates. It returns after the last one, or when ctx ends. It is an error if no
// further report comes.
func Print(ctx context.Context, w io.Writer, o Options, ask Ask) error {
	tick := time.Tick(pollEvery)
	var last time.Time // of a report
	lastWritten := time.Now()
	for written := 0; o.Count == 0 || written < o.Count; {
		r, err := ask(ctx, o.Query)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		case r.WindowSeconds > 0 && !r.Time.Equal(last):
			if err := write(w, o, r, written == 0); err != nil {
				return fmt.Errorf("printing the report: %w", err)
			}
			last, lastWritten = r.Time, time.Now()
			written++
			continue
		case time.Since(lastWritten) > maxWait:
			return fmt.Errorf("no new report with rates came for %v", maxWait)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick:
		}
	}
	return nil
}

func write(w io.Writer, o Options, r *talkers.Report, first bool) error {
	if o.JSON {
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false)
		return e.Encode(r)
	}
	text := Text(o, r)
	if !first {
		text = "\n" + text
	}
	_, err := io.WriteString(w, text)
	return err
}

// Text writes a report, the answer to o.Query, as text: what is watched, the sums of all addresses, what is wrong, an empty line and the table.
func Text(o Options, r *talkers.Report) string {
	m := NewModel(o)
	m.report, m.answered = r, m.query
	lines := []string{m.subject() + "  " + r.Time.Local().Format(time.RFC3339), m.totals(math.MaxInt)}
	for _, alarm := range m.captureAlarms() {
		lines = append(lines, "! "+alarm)
	}
	title, rows := m.table(r.Talkers, 0)
	var b strings.Builder
	for _, line := range slices.Concat(lines, []string{"", title}, rows) {
		b.WriteString(clean(line, o.ASCII) + "\n")
	}
	return b.String()
}
