package top

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"promflow/telemetry/talkers"
)

// Ask gets the answer to a question.
type Ask func(context.Context, talkers.Query) (*talkers.Report, error)

// Options is what is shown, and how.
type Options struct {
	Watched string        // who is asked; empty if it is this machine itself that captures
	Query   talkers.Query // what is asked at first; its page is for text
	Bytes   bool          // rates are in bytes, not in bits
	ASCII   bool          // the terminal, or who reads, has nothing else
	JSON    bool          // text is reports as they come
	Count   int           // of reports that are text; 0 is without end
}

// pollEvery is how often is asked whether there is a new report, where that is awaited.
const pollEvery = 250 * time.Millisecond

// Print writes reports as text, each once it has rates, and returns after the last one or when ctx ends.
func Print(ctx context.Context, w io.Writer, o Options, ask Ask) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	var last time.Time
	for written := 0; o.Count == 0 || written < o.Count; {
		r, err := ask(ctx, o.Query)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		}
		if r.WindowSeconds > 0 && !r.Time.Equal(last) {
			if err := write(w, o, r, written == 0); err != nil {
				return fmt.Errorf("printing the report: %w", err)
			}
			last = r.Time
			written++
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
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

// Text writes a report: who is asked, what all move together, what is wrong, and after an empty line the table.
func Text(o Options, r *talkers.Report) string {
	t := table{units: units(o.Bytes), ascii: o.ASCII, sort: o.Query.Sort, reverse: o.Query.Reverse, names: r.Names, rates: r.WindowSeconds > 0}
	if t.sort == "" {
		t.sort = talkers.Sorts[0]
	}
	lines := []string{strings.TrimRight("promflow top  "+o.Watched, " ") + interfaces(r) + "  " + r.Time.Local().Format(time.RFC3339), totals(r, t.units, 0)}
	for _, alarm := range alarms(r) {
		lines = append(lines, "! "+alarm)
	}
	title, rows := t.lines(r.Talkers, 0)
	lines = append(append(lines, "", title), rows...)
	var b strings.Builder
	for _, line := range lines {
		b.WriteString(clean(line, o.ASCII) + "\n")
	}
	return b.String()
}
