package check

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Status says how much a finding matters.
type Status int

const (
	OK      Status = iota
	Info           // worth knowing
	Warning        // may not be intended
	Error          // does not work
)

var statuses = [...]string{"ok", "info", "warning", "error"}

func (s Status) String() string { return statuses[s] }

// MarshalText makes JSON of the name.
func (s Status) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Finding is the result of one test.
type Finding struct {
	Name      string   `json:"name"` // stable, for scripts
	Interface string   `json:"interface,omitempty"`
	Status    Status   `json:"status"`
	Summary   string   `json:"summary"`
	Details   []string `json:"details,omitempty"`
}

// set sets the status and the summary.
func (f *Finding) set(s Status, format string, args ...any) {
	f.Status, f.Summary = s, fmt.Sprintf(format, args...)
}

// detail adds a detail.
func (f *Finding) detail(format string, args ...any) {
	f.Details = append(f.Details, fmt.Sprintf(format, args...))
}

// reasons adds an error as a detail, or each of several joined errors.
func (f *Finding) reasons(err error) {
	all := []error{err}
	var joined interface{ Unwrap() []error }
	if errors.As(err, &joined) && len(joined.Unwrap()) > 0 && err.Error() == errors.Join(joined.Unwrap()...).Error() {
		all = joined.Unwrap()
	}
	for _, e := range all {
		f.detail("%v", e)
	}
}

// atLeast raises the status to s if it is lower.
func (f *Finding) atLeast(s Status) { f.Status = max(f.Status, s) }

// Report is the result of a check. Its JSON has stable keys.
type Report struct {
	Status     Status      `json:"status"`           // the worst of the findings
	Duration   float64     `json:"duration_seconds"` // how long it counted; 0: not at all
	Backend    string      `json:"backend,omitempty"`
	Findings   []Finding   `json:"findings"`
	Interfaces []Interface `json:"interfaces"`
	Exporters  []Exporter  `json:"exporters,omitempty"` // of flows
}

// Interface has the counts of promflow and of the kernel for an interface.
type Interface struct {
	Name      string          `json:"name"`
	Share     *float64        `json:"share"` // of the kernel's packets that promflow counted, from 0 to 1; null if there were none
	Packets   int64           `json:"packets"`
	Bytes     int64           `json:"bytes"`
	Dropped   int64           `json:"dropped_packets"`
	ByOutcome map[string]Size `json:"by_outcome"`
	Kernel    Counters        `json:"kernel"`
}

// Size is packets on the wire and their network-layer bytes.
type Size struct {
	Packets int64 `json:"packets"`
	Bytes   int64 `json:"bytes"`
}

// add adds findings.
func (r *Report) add(all ...Finding) {
	for _, f := range all {
		r.Findings = append(r.Findings, f)
		r.Status = max(r.Status, f.Status)
	}
}

// Named returns the names of the findings with this status, each once.
func (r *Report) Named(s Status) (names []string) {
	for _, f := range r.Findings {
		if f.Status == s && !slices.Contains(names, f.Name) {
			names = append(names, f.Name)
		}
	}
	return names
}

// WriteJSON writes the report as one object.
func (r *Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(r)
}

// Columns of the text.
const (
	width      = 100
	nameColumn = len("warning") + 2
	textColumn = nameColumn + 22
	hanging    = 2
)

// WriteText writes the report for people.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	for _, f := range r.Findings {
		head := fmt.Sprintf("%-*s%s", nameColumn, f.Status, strings.TrimSpace(f.Name+" "+f.Interface))
		if len(head) >= textColumn {
			b.WriteString(head + "\n")
			head = ""
		}
		for _, line := range wrap(f.Summary, width-textColumn) {
			fmt.Fprintf(&b, "%-*s%s\n", textColumn, head, line)
			head = ""
		}
		for _, d := range f.Details {
			indent := textColumn + hanging
			for _, line := range wrap(d, width-textColumn-2*hanging) {
				fmt.Fprintf(&b, "%*s%s\n", indent, "", line)
				indent = textColumn + 2*hanging
			}
		}
	}
	b.WriteString("\n" + r.verdict() + "\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// verdict sums up the report in a line.
func (r *Report) verdict() string {
	errs, warnings := r.Named(Error), r.Named(Warning)
	silent := len(r.Interfaces) > 0 && !slices.ContainsFunc(r.Interfaces, func(i Interface) bool { return i.Packets+i.Dropped > 0 })
	switch {
	case len(errs) > 0:
		return "Does not work: " + strings.Join(errs, ", ") + "."
	case silent && len(warnings) > 0:
		return "Works, but no packet was seen: see what is said of " + strings.Join(warnings, ", ") + "."
	case silent:
		return "Works, but no packet was seen: is it the right interface?"
	case len(warnings) > 0:
		return "Works; see what is said of " + strings.Join(warnings, ", ") + "."
	}
	return "Works."
}

// wrap breaks text at spaces into lines of at most so many characters; a longer word is a line by itself. It returns at least one line.
func wrap(text string, most int) (lines []string) {
	line := ""
	for word := range strings.FieldsSeq(text) {
		switch {
		case line == "":
			line = word
		case len(line)+1+len(word) <= most:
			line += " " + word
		default:
			lines = append(lines, line)
			line = word
		}
	}
	return append(lines, line)
}
