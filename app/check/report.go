package check

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Status says how much a finding matters.
type Status int

const (
	OK      Status = iota
	Info           // worth to know
	Warning        // maybe not as it was meant
	Error          // does not work
)

var statuses = [...]string{"ok", "info", "warning", "error"}

func (s Status) String() string { return statuses[s] }

// MarshalText is for JSON.
func (s Status) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Finding is what was found out about one thing.
type Finding struct {
	Name      string   `json:"name"` // stable, for scripts
	Interface string   `json:"interface,omitempty"`
	Status    Status   `json:"status"`
	Summary   string   `json:"summary"`
	Details   []string `json:"details,omitempty"`
}

// detail adds a detail to the finding.
func (f *Finding) detail(format string, args ...any) {
	f.Details = append(f.Details, fmt.Sprintf(format, args...))
}

// atLeast makes the finding matter at least so much.
func (f *Finding) atLeast(s Status) { f.Status = max(f.Status, s) }

// Report is all that was found out. Its JSON has stable keys.
type Report struct {
	Status     Status      `json:"status"`           // the worst of the findings
	Duration   float64     `json:"duration_seconds"` // how long was counted, 0 if not at all
	Backend    string      `json:"backend,omitempty"`
	Findings   []Finding   `json:"findings"`
	Interfaces []Interface `json:"interfaces"`
}

// Interface is what was counted on one interface, and what the kernel counted meanwhile.
type Interface struct {
	Name      string          `json:"name"`
	Share     *float64        `json:"share"` // of the kernel's packets that was counted, from 0 to 1; null if that cannot be told
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

// Named gives the names of the findings that have a status, each once.
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

// The columns of the text.
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
		name := f.Name
		if f.Interface != "" {
			name += " " + f.Interface
		}
		head := fmt.Sprintf("%-*s%-*s", nameColumn, f.Status, textColumn-nameColumn-1, name) + " "
		for i, line := range wrap(f.Summary, width-textColumn) {
			if i > 0 || len(head) > textColumn {
				if i == 0 {
					b.WriteString(strings.TrimRight(head, " ") + "\n")
				}
				head = strings.Repeat(" ", textColumn)
			}
			b.WriteString(head + line + "\n")
		}
		for _, d := range f.Details {
			for i, line := range wrap(d, width-textColumn-2*hanging) {
				indent := textColumn + hanging
				if i > 0 {
					indent += hanging
				}
				b.WriteString(strings.Repeat(" ", indent) + line + "\n")
			}
		}
	}
	b.WriteString("\n" + r.verdict() + "\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// verdict is the report in a line.
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

// wrap breaks text at spaces into lines of at most so many characters, where words are not longer. There is one line at least.
func wrap(text string, most int) []string {
	lines := []string{""}
	for word := range strings.FieldsSeq(text) {
		last := &lines[len(lines)-1]
		switch {
		case *last == "":
			*last = word
		case len(*last)+1+len(word) <= most:
			*last += " " + word
		default:
			lines = append(lines, word)
		}
	}
	return lines
}
