package top

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"promflow/telemetry/talkers"
)

// Model is the state of the view: what is asked, the last answer, and what of it is seen. It does nothing but change when it is told
// something, and draws itself as text. The zero Model is not ready: see NewModel.
type Model struct {
	watched string // who is asked
	ascii   bool
	units   units

	query   talkers.Query // without its page
	first   int           // of the rows that are seen
	columns int           // of the terminal
	lines   int

	report   *talkers.Report
	answered talkers.Query // what the report is the answer to

	now     time.Time
	failure string // why there is no newer report
	failed  time.Time

	warnings []warning

	paused, help, editing bool
}

// warning is what was logged at some time.
type warning struct {
	at   time.Time
	text string
}

// warningShown is for how long a logged warning is on the screen.
const warningShown = time.Minute

// NewModel makes the view of what o says.
func NewModel(o Options) *Model {
	m := &Model{watched: o.Watched, ascii: o.ASCII, units: units(o.Bytes), query: o.Query, columns: 80, lines: 24}
	if m.query.Sort == "" {
		m.query.Sort = talkers.Sorts[0]
	}
	return m
}

// Query gives what is to be asked now: the rows that are seen, and as many on either side.
func (m *Model) Query() talkers.Query {
	q := m.query
	page := min(m.page(), talkers.MaxLimit/3)
	q.Offset = max(m.first-page, 0)
	q.Limit = max(3*page, 1)
	return q
}

// Answer takes a report, the answer to q. What was asked before the question changed is not shown.
func (m *Model) Answer(q talkers.Query, r *talkers.Report) {
	m.failure = ""
	if q.Sort != m.query.Sort || q.Reverse != m.query.Reverse || q.Filter != m.query.Filter {
		return
	}
	if m.paused && m.report != nil && q == m.answered {
		return
	}
	m.report, m.answered = r, q
	m.scroll(0)
}

// Fail takes the reason why there is no answer.
func (m *Model) Fail(err error) {
	if m.failure == "" {
		m.failed = m.now
	}
	m.failure = strings.TrimPrefix(err.Error(), m.watched+": ") // which the screen has already
}

// Tick tells the time.
func (m *Model) Tick(now time.Time) { m.now = now }

// Warn takes what was logged, of which the last two are shown.
func (m *Model) Warn(text string) {
	m.warnings = slices.DeleteFunc(m.warnings, func(w warning) bool { return w.text == text })
	m.warnings = append(m.warnings, warning{m.now, text})
	m.warnings = m.warnings[max(len(m.warnings)-2, 0):]
}

// Resize tells how large the terminal is.
func (m *Model) Resize(columns, lines int) {
	m.columns, m.lines = max(columns, 0), max(lines, 0)
	m.scroll(0)
}

// Key is one that was pressed: a special one by name, or what was written.
type Key struct {
	Name string // one of those below
	Text string
}

// The names of keys.
const (
	Up, Down, PageUp, PageDown, Home, End = "up", "down", "page up", "page down", "home", "end"
	Enter, Escape, Backspace              = "enter", "escape", "backspace"
	ControlC, ControlU                    = "Ctrl-C", "Ctrl-U"
)

// Press takes a key, and tells whether the user wants to leave.
func (m *Model) Press(k Key) (quit bool) {
	switch {
	case k.Name == ControlC:
		return true
	case m.editing:
		m.edit(k)
		return false
	}
	page := max(m.page(), 1)
	switch k.Name {
	case Up:
		m.scroll(-1)
	case Down:
		m.scroll(1)
	case PageUp:
		m.scroll(-page)
	case PageDown:
		m.scroll(page)
	case Home:
		m.scroll(-m.first)
	case End:
		m.scroll(m.matching())
	case Escape:
		m.filter("")
	}
	switch k.Text {
	case "q", "Q":
		return true
	case "k":
		m.scroll(-1)
	case "j":
		m.scroll(1)
	case "g":
		m.scroll(-m.first)
	case "G":
		m.scroll(m.matching())
	case "s":
		m.nextSort(1)
	case "S":
		m.nextSort(-1)
	case "r":
		m.query.Reverse = !m.query.Reverse
		m.first = 0
	case "/":
		m.editing = true
	case "p", " ":
		m.paused = !m.paused
	case "u":
		m.units = !m.units
	case "?", "h":
		m.help = !m.help
		m.scroll(0)
	case "1", "2", "3", "4", "5", "6", "7", "8":
		if at := int(k.Text[0] - '1'); at < len(talkers.Sorts) {
			m.sortBy(talkers.Sorts[at])
		}
	}
	return false
}

// edit takes a key of the filter, which is asked for as it is written.
func (m *Model) edit(k Key) {
	switch k.Name {
	case Enter:
		m.editing = false
	case Escape:
		m.editing = false
		m.filter("")
	case ControlU:
		m.filter("")
	case Backspace:
		_, n := utf8.DecodeLastRuneInString(m.query.Filter)
		m.filter(m.query.Filter[:len(m.query.Filter)-n])
	}
	// The longest name of a host has 253 bytes, and more is no question.
	if k.Text != "" && len(m.query.Filter)+len(k.Text) <= 253 && utf8.ValidString(k.Text) {
		m.filter(m.query.Filter + clean(k.Text, false))
	}
}

func (m *Model) filter(text string) {
	if text != m.query.Filter {
		m.query.Filter, m.first = text, 0
	}
}

// nextSort sorts by what comes next in the list, or before. Without names there is no sorting by them.
func (m *Model) nextSort(step int) {
	sorts := slices.DeleteFunc(slices.Clone(talkers.Sorts), func(s string) bool { return s == "hostname" && !m.names() })
	at := slices.Index(sorts, m.query.Sort)
	m.sortBy(sorts[(max(at, 0)+step+len(sorts))%len(sorts)])
}

// names tells whether there are some, as far as that is known.
func (m *Model) names() bool { return m.report == nil || m.report.Names }

func (m *Model) sortBy(sort string) {
	if sort != m.query.Sort && (sort != "hostname" || m.names()) {
		m.query.Sort, m.query.Reverse, m.first = sort, false, 0
	}
}

// scroll moves the rows that are seen, as far as there are some.
func (m *Model) scroll(by int) { m.first = max(min(m.first+by, m.matching()-m.page()), 0) }

// matching is how many rows there are.
func (m *Model) matching() int {
	if m.report == nil {
		return 0
	}
	return max(m.report.Matching, 0)
}

// Style is how a line looks.
type Style int

const (
	Normal Style = iota
	Bold
	Reverse // the table's title
	Alarm   // it begins with an exclamation mark: not by colour only
)

// Line is one of the screen's. Its text has no more columns than the screen, and no control characters.
type Line struct {
	Text  string
	Style Style
}

// page is how many rows there is room for.
func (m *Model) page() int {
	foot := 0
	if m.lines >= lowForFoot {
		foot = 1
	}
	return max(m.lines-len(m.head())-len(m.helpLines())-foot-1, 0)
}

// View draws the screen, no more lines than it has.
func (m *Model) View() []Line {
	lines := m.head()
	page := m.page()
	foot := m.foot(page)
	title, rows := m.table().lines(m.rows(page), m.columns)
	lines = append(lines, Line{pad(title, m.columns, false), Reverse})
	for _, row := range rows {
		lines = append(lines, Line{Text: row})
	}
	if len(rows) == 0 && page > 0 {
		lines = append(lines, Line{Text: m.nothing()})
	}
	for len(lines)+len(foot) < m.lines {
		lines = append(lines, Line{})
	}
	lines = append(lines, foot...)
	lines = lines[:min(len(lines), m.lines)]
	for i := range lines {
		lines[i].Text = cut(clean(lines[i].Text, m.ascii), m.columns, m.ascii)
	}
	return lines
}

// Cursor tells where the filter is being written.
func (m *Model) Cursor() (x, y int, visible bool) {
	if !m.editing || m.lines < lowForFoot || m.columns == 0 {
		return 0, 0, false
	}
	return min(width(cut(m.filterLine(), m.columns, m.ascii)), m.columns-1), m.lines - 1, true
}

func (m *Model) table() table {
	t := table{units: m.units, ascii: m.ascii, sort: m.query.Sort, reverse: m.query.Reverse}
	if m.report != nil {
		t.names, t.rates = m.report.Names, m.report.WindowSeconds > 0
	}
	return t
}

// rows gives the talkers that are seen, as far as they have been answered.
func (m *Model) rows(page int) []talkers.Talker {
	if m.report == nil {
		return nil
	}
	all := m.report.Talkers
	from := min(max(m.first-m.answered.Offset, 0), len(all))
	return all[from:min(from+page, len(all))]
}

// nothing says why there are no rows.
func (m *Model) nothing() string {
	switch {
	case m.report == nil:
		return "waiting for the first report"
	case m.query.Filter != "":
		return "no address matches the filter"
	case m.watched == "":
		return "no monitored address has moved anything yet (see --monitor-subnets)"
	}
	return "no address has moved anything yet"
}

// How low a terminal is where less is drawn.
const (
	lowForHistory = 16
	lowForTotals  = 6
	lowForFoot    = 3
)

// head draws what is above the table.
func (m *Model) head() []Line {
	lines := []Line{{m.heading(), Bold}}
	if m.lines >= lowForTotals {
		lines = append(lines, Line{Text: m.totals()})
	}
	if m.lines >= lowForHistory {
		lines = append(lines, m.history()...)
	}
	return append(lines, m.alarms()...)
}

// heading says what is watched and, on the right, at what time.
func (m *Model) heading() string {
	left := strings.TrimRight("promflow top  "+clean(m.watched, m.ascii), " ")
	if m.report == nil {
		return left
	}
	left += interfaces(m.report)
	right := m.report.Time.In(m.now.Location()).Format(time.TimeOnly)
	if m.paused {
		right = "PAUSED " + right
	}
	room := m.columns - len(right) - 1
	if room < len("promflow top") {
		return left
	}
	return pad(cut(clean(left, m.ascii), room, m.ascii), room, false) + " " + right
}

// interfaces, with the space before them, names those that are captured, and by what.
func interfaces(r *talkers.Report) string {
	var b strings.Builder
	for i, of := range r.Interfaces {
		separator := ", "
		if i == 0 {
			separator = "  "
		}
		b.WriteString(separator + of.Name)
		if of.Backend != "" && (i+1 == len(r.Interfaces) || r.Interfaces[i+1].Backend != of.Backend) { // once for those in a row
			b.WriteString(" (" + of.Backend + ")")
		}
	}
	return b.String()
}

// totals says what all addresses move together.
func (m *Model) totals() string {
	if m.report == nil {
		return ""
	}
	return totals(m.report, m.units, m.columns)
}

// totals writes what all addresses move together, and leaves out what there is no room for. A width of 0 is as much as it takes.
func totals(r *talkers.Report, u units, columns int) string {
	in, out := "-", "-"
	if r.WindowSeconds > 0 {
		in, out = u.rate(r.ReceiveRate), u.rate(r.TransmitRate)
	}
	line := fmt.Sprintf("in %s  out %s", in, out)
	more := []string{fmt.Sprintf("%d addresses", r.Addresses)}
	if r.WindowSeconds > 0 {
		more = append(more, fmt.Sprintf("means of %.3g s", r.WindowSeconds))
	} else {
		more = append(more, "rates come with the next reading")
	}
	more = append(more, fmt.Sprintf("in all %s in, %s out", size(r.ReceiveTotal), size(r.TransmitTotal)))
	for _, each := range more {
		if columns > 0 && len(line)+2+len(each) > columns {
			break
		}
		line += "  " + each
	}
	return line
}

// history draws the rates of all addresses together, each direction by its own highest one.
func (m *Model) history() []Line {
	draw := func(name string, values []int64) Line {
		head := name
		if m.columns >= wide {
			most := int64(0)
			for _, v := range values {
				most = max(most, v)
			}
			head += fmt.Sprintf(" (%s at most)", m.units.rate(most))
			head = pad(head, len("out (1.23 Mbit/s at most)"), false)
		} else {
			head = pad(head, len("out"), false)
		}
		return Line{Text: head + " " + spark(values, m.columns-len(head)-1, m.ascii)}
	}
	var in, out []int64
	if r := m.report; r != nil {
		in = slots(r.History.Time, r.History.Receive, r.IntervalSeconds, m.columns)
		out = slots(r.History.Time, r.History.Transmit, r.IntervalSeconds, m.columns)
	}
	return []Line{draw("in", in), draw("out", out)}
}

// slots gives the values at regular times up to the last one, no more than most, and 0 where there are none: nobody asked then.
func slots(times []float64, values []int64, interval float64, most int) []int64 {
	n := min(len(times), len(values))
	if n == 0 || !(interval > 0) || most <= 0 {
		return nil
	}
	last, found := times[n-1], []int64{}
	for i := n - 1; i >= 0; i-- {
		ago := (last-times[i])/interval + 0.5
		if !(ago >= 0 && ago < float64(most)) {
			continue
		}
		for len(found) <= int(ago) {
			found = append(found, 0)
		}
		found[int(ago)] = values[i]
	}
	slices.Reverse(found)
	return found
}

// alarms says what is wrong, in few lines: what matters most comes first.
func (m *Model) alarms() []Line {
	var all []string
	if m.failure != "" {
		text := m.failure
		if m.report != nil {
			text = fmt.Sprintf("no answer since %s: %s", m.failed.Format(time.TimeOnly), m.failure)
		}
		all = append(all, text)
	}
	if m.report != nil {
		all = append(all, alarms(m.report)...)
	}
	for _, w := range slices.Backward(m.warnings) {
		if m.now.Sub(w.at) < warningShown {
			all = append(all, w.text)
		}
	}
	most := max(min(m.lines/6, 3), 0)
	var lines []Line
	for i, text := range all {
		if i+1 == most && len(all) > most {
			text += fmt.Sprintf(" (and %d more)", len(all)-most)
		}
		if i < most {
			lines = append(lines, Line{"! " + text, Alarm})
		}
	}
	return lines
}

// alarms says what is wrong with the capture.
func alarms(r *talkers.Report) (all []string) {
	for _, i := range r.Interfaces {
		if !i.Up && i.Backend != "" {
			all = append(all, i.Name+" is down or away")
		}
	}
	for _, i := range r.Interfaces {
		if i.DroppedRate > 0 {
			all = append(all, fmt.Sprintf("%s: the kernel drops %.3g packets/s, which are not counted", i.Name, i.DroppedRate))
		}
	}
	if r.AddressesLimit > 0 && r.Addresses >= r.AddressesLimit {
		all = append(all, fmt.Sprintf("the table is full: what is beyond %d addresses counts as other (see --max-ips)", r.AddressesLimit))
	}
	return all
}

// keys is what the keys do.
var keys = []string{
	"q quit", "arrows, page keys, j, k scroll", "g, G first, last", "s, S sort by", "1 rate", "2 in", "3 out", "4 total", "5 total in",
	"6 total out", "7 IP", "8 name", "r reverse", "/ filter (Enter keeps, Escape clears)", "p pause", "u bits or bytes", "? less",
}

// foot draws what is below the table, of which so many rows are seen.
func (m *Model) foot(page int) []Line {
	lines := m.helpLines()
	switch {
	case m.lines < lowForFoot:
		return lines
	case m.editing:
		return append(lines, Line{m.filterLine(), Bold})
	}
	return append(lines, Line{Text: m.status(page)})
}

// helpLines draws what the keys do, if that is asked for, in no more than half of the lines.
func (m *Model) helpLines() (lines []Line) {
	if !m.help {
		return nil
	}
	text := ""
	for _, each := range keys {
		if text != "" && len(text)+2+len(each) > m.columns {
			lines, text = append(lines, Line{Text: text}), ""
		}
		if text != "" {
			text += "  "
		}
		text += each
	}
	lines = append(lines, Line{Text: text})
	return lines[:min(len(lines), m.lines/2)]
}

func (m *Model) filterLine() string { return "filter: " + clean(m.query.Filter, m.ascii) }

// sortNames are talkers.Sorts for people.
var sortNames = map[string]string{
	"rate": "rate", "receive_rate": "in", "transmit_rate": "out", "total": "total", "receive_total": "total in", "transmit_total": "total out",
	"ip": "IP", "hostname": "name",
}

// status says which rows are seen, and what else is asked.
func (m *Model) status(page int) string {
	n := m.matching()
	rows := fmt.Sprint(n)
	if n > 0 && page > 0 {
		rows = fmt.Sprintf("%d-%d of %d", m.first+1, min(m.first+page, n), n)
	}
	parts := []string{rows, "by " + sortNames[m.query.Sort] + " " + arrow(m.table().descends(), m.ascii)}
	if m.query.Filter != "" {
		parts = append(parts, m.filterLine())
	}
	line := strings.Join(parts, "  ")
	for _, hint := range []string{"? help", "q quit", "s sort", "/ filter", "p pause"} {
		if width(line)+2+len(hint) > m.columns {
			break
		}
		line += "  " + hint
	}
	return line
}
