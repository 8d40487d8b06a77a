// Package top shows the top talkers: on a terminal until the user quits, or as text. It shows a [talkers.Report] from any source.
//
// Model is the state of the view, without a terminal. Show draws it on one, and Print writes text.
package top

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gdamore/tcell/v3"
	"github.com/gdamore/tcell/v3/color"

	"promflow/telemetry/talkers"
)

// Model is the state of the view: the query, the last report, and the part of it that is on the screen. It changes only when a method is
// called, and draws itself as text. NewModel makes one.
type Model struct {
	watched string // the promflow that is asked
	ascii   bool
	bytes   bool // rates are in bytes, not in bits

	query   talkers.Query // without Offset and Limit
	first   int           // the first row on the screen
	columns int           // of the terminal
	lines   int

	report   *talkers.Report // the zero Report before the first answer
	answered talkers.Query   // the query that report answers

	now     time.Time
	failure string // why there is no newer report
	failed  time.Time

	warnings []warning

	paused, help, editing bool
}

// warning is a message of the log.
type warning struct {
	at   time.Time
	text string
}

// warningShown is how long a warning stays on the screen.
const warningShown = time.Minute

// NewModel makes a view without a report.
func NewModel(o Options) *Model {
	m := &Model{watched: o.Watched, ascii: o.ASCII, bytes: o.Bytes, query: o.Query, report: &talkers.Report{}}
	m.query.By, m.query.Sort = cmp.Or(m.query.By, talkers.ByIP), cmp.Or(m.query.Sort, talkers.Sorts[0])
	return m
}

// waiting tells whether there is no report yet.
func (m *Model) waiting() bool { return m.report.Time.IsZero() }

// Query returns the query for the rows on the screen, and for as many above and below.
func (m *Model) Query() talkers.Query {
	q := m.query
	page := min(m.page(), talkers.MaxLimit/3)
	q.Offset = max(m.first-page, 0)
	q.Limit = max(3*page, 1)
	return q
}

// Answer shows a report, the answer to q, unless the user has changed the query since.
func (m *Model) Answer(q talkers.Query, r *talkers.Report) {
	m.failure = ""
	if q.By != m.query.By || q.Sort != m.query.Sort || q.Reverse != m.query.Reverse || q.Filter != m.query.Filter {
		return
	}
	if m.paused && !m.waiting() && q == m.answered {
		return
	}
	m.report, m.answered = r, q
	m.scroll(0)
}

// Fail shows why there is no answer.
func (m *Model) Fail(err error) {
	if m.failure == "" {
		m.failed = m.now
	}
	m.failure = strings.TrimPrefix(err.Error(), m.watched+": ") // the heading has it
}

// Tick sets the time.
func (m *Model) Tick(now time.Time) { m.now = now }

// Warn shows a message of the log. The last two are on the screen.
func (m *Model) Warn(text string) {
	m.warnings = slices.DeleteFunc(m.warnings, func(w warning) bool { return w.text == text })
	m.warnings = append(m.warnings, warning{m.now, text})
	m.warnings = m.warnings[max(len(m.warnings)-2, 0):]
}

// Resize sets the size of the terminal.
func (m *Model) Resize(columns, lines int) {
	m.columns, m.lines = max(columns, 0), max(lines, 0)
	m.scroll(0)
}

// Key is a pressed key: the name of a special key, or the text that the key types.
type Key struct {
	Name string // as tcell.KeyNames has it
	Text string
}

// Press processes a key, and tells whether the user wants to quit.
func (m *Model) Press(k Key) (quit bool) {
	if m.editing && k.Name != "Ctrl-C" {
		m.edit(k)
		return false
	}
	page := max(m.page(), 1)
	switch cmp.Or(k.Name, k.Text) {
	case "Ctrl-C", "q", "Q":
		return true
	case "Up", "k":
		m.scroll(-1)
	case "Down", "j":
		m.scroll(1)
	case "PgUp":
		m.scroll(-page)
	case "PgDn":
		m.scroll(page)
	case "Home", "g":
		m.scroll(-m.first)
	case "End", "G":
		m.scroll(m.report.Matching)
	case "Esc":
		m.filter("")
	case "s":
		m.nextSort(1)
	case "S":
		m.nextSort(-1)
	case "r":
		m.query.Reverse = !m.query.Reverse
		m.first = 0
	case "d":
		m.switchDevices()
	case "/":
		m.editing = true
	case "p", " ":
		m.paused = !m.paused
	case "u":
		m.bytes = !m.bytes
	case "?", "h":
		m.help = !m.help
		m.scroll(0)
	default:
		if n, err := strconv.Atoi(k.Text); err == nil && n > 0 && n <= len(talkers.Sorts) {
			m.sortBy(talkers.Sorts[n-1])
		}
	}
	return false
}

// edit processes a key while the filter is edited. Each change applies at once.
func (m *Model) edit(k Key) {
	switch k.Name {
	case "Enter":
		m.editing = false
	case "Esc":
		m.editing = false
		m.filter("")
	case "Ctrl-U":
		m.filter("")
	case "Backspace":
		_, n := utf8.DecodeLastRuneInString(m.query.Filter)
		m.filter(m.query.Filter[:len(m.query.Filter)-n])
	}
	// A query may have a filter of 253 bytes, the length of the longest hostname.
	if k.Text != "" && len(m.query.Filter)+len(k.Text) <= 253 && utf8.ValidString(k.Text) {
		m.filter(m.query.Filter + clean(k.Text, false))
	}
}

func (m *Model) filter(text string) {
	if text != m.query.Filter {
		m.query.Filter, m.first = text, 0
	}
}

// nextSort sorts by the next order in talkers.Sorts, or the previous one, and leaves out hostnames if there are none.
func (m *Model) nextSort(step int) {
	sorts := slices.DeleteFunc(slices.Clone(talkers.Sorts), func(s string) bool { return s == "hostname" && !m.names() })
	at := max(slices.Index(sorts, m.query.Sort), 0)
	m.sortBy(sorts[(at+step+len(sorts))%len(sorts)])
}

// switchDevices asks for devices instead of addresses, or the other way round. Without names there are no devices.
func (m *Model) switchDevices() {
	switch {
	case m.query.By == talkers.ByDevice:
		m.query.By, m.first = talkers.ByIP, 0
	case m.names():
		m.query.By, m.first = talkers.ByDevice, 0
	}
}

// devices tells whether the rows of the report are devices.
func (m *Model) devices() bool { return m.answered.By == talkers.ByDevice }

// rates tells whether there are rates. The first reading has none.
func (m *Model) rates() bool { return m.report.WindowSeconds > 0 }

// names tells whether there may be hostnames.
func (m *Model) names() bool { return m.waiting() || m.report.Names }

func (m *Model) sortBy(sort string) {
	if sort != m.query.Sort && (sort != "hostname" || m.names()) {
		m.query.Sort, m.query.Reverse, m.first = sort, false, 0
	}
}

// scroll moves the table by so many rows, at most to its first or last one.
func (m *Model) scroll(by int) { m.first = max(min(m.first+by, m.report.Matching-m.page()), 0) }

// How lines look. The text of an alarm begins with an exclamation mark, for terminals without color.
var (
	bold    = tcell.StyleDefault.Bold(true)
	reverse = tcell.StyleDefault.Reverse(true)
	alarm   = bold.Foreground(color.Maroon) // ANSI color 1: the terminal chooses a readable red
)

// Line is a line of the screen. View returns lines that fit the screen and have no control characters.
type Line struct {
	Text  string
	Style tcell.Style
}

// page is how many rows there is room for.
func (m *Model) page() int {
	room := m.lines - len(m.head()) - len(m.helpLines()) - 1 // the title of the table
	if m.lines >= minLinesForFoot {
		room--
	}
	return max(room, 0)
}

// View draws the screen, with at most as many lines as it has.
func (m *Model) View() []Line {
	foot := m.foot()
	title, rows := m.table(m.rows(), m.columns)
	lines := append(m.head(), Line{pad(title, m.columns, false), reverse})
	for _, row := range rows {
		lines = append(lines, Line{Text: row})
	}
	if len(rows) == 0 && m.page() > 0 {
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

// Cursor tells where the cursor is while the filter is edited.
func (m *Model) Cursor() (x, y int, visible bool) {
	if !m.editing || m.lines < minLinesForFoot || m.columns == 0 {
		return 0, 0, false
	}
	return min(width(cut(m.filterLine(), m.columns, m.ascii)), m.columns-1), m.lines - 1, true
}

// rows returns the talkers on the screen, as far as the report has them.
func (m *Model) rows() []talkers.Talker {
	all := m.report.Talkers
	from := min(max(m.first-m.answered.Offset, 0), len(all))
	return all[from:min(from+m.page(), len(all))]
}

// nothing says why the table has no rows.
func (m *Model) nothing() string {
	switch {
	case m.waiting():
		return "waiting for the first report"
	case m.query.Filter != "":
		if m.devices() {
			return "no device matches the filter"
		}
		return "no address matches the filter"
	case m.watched == "":
		return "no monitored address has moved anything yet (see --monitor-subnets)"
	}
	return "no address has moved anything yet"
}

// How many lines a terminal needs at least for parts of the screen.
const (
	minLinesForHistory = 16
	minLinesForTotals  = 6
	minLinesForFoot    = 3
)

// head draws what is above the table.
func (m *Model) head() []Line {
	lines := []Line{{m.heading(), bold}}
	if m.lines >= minLinesForTotals {
		lines = append(lines, Line{Text: m.totals(m.columns)})
	}
	if m.lines >= minLinesForHistory {
		lines = append(lines, m.history()...)
	}
	return append(lines, m.alarms()...)
}

// heading draws what is watched and, on the right, the time of the report.
func (m *Model) heading() string {
	left := m.subject()
	if m.waiting() {
		return left
	}
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

// subject says what is watched: the promflow, and its interfaces with their backends.
func (m *Model) subject() string {
	text, separator, all := strings.TrimRight("promflow top  "+m.watched, " "), "  ", m.report.Interfaces
	for i, of := range all {
		text += separator + of.Name
		if of.Backend != "" && (i+1 == len(all) || all[i+1].Backend != of.Backend) { // once for several in a row
			text += " (" + of.Backend + ")"
		}
		separator = ", "
	}
	return text
}

// join appends texts to a line, as many as fit into so many columns, and returns the others.
func join(line string, texts []string, columns int) (string, []string) {
	for len(texts) > 0 && width(line)+2+width(texts[0]) <= columns {
		line += "  " + texts[0]
		texts = texts[1:]
	}
	return line, texts
}

// totals writes the sums of all addresses. It leaves out what does not fit into so many columns.
func (m *Model) totals(columns int) string {
	if m.waiting() {
		return ""
	}
	r, window := m.report, "rates come with the next reading"
	if m.rates() {
		window = fmt.Sprintf("means of %.3g s", r.WindowSeconds)
	}
	line, _ := join(fmt.Sprintf("in %s  out %s", m.rate(r.ReceiveRate), m.rate(r.TransmitRate)), []string{
		fmt.Sprintf("%d addresses", r.Addresses), window,
		fmt.Sprintf("in all %s in, %s out", size(r.ReceiveTotal), size(r.TransmitTotal)),
	}, columns)
	return line
}

// history draws the rates of all addresses together. Each direction has a scale of its own.
func (m *Model) history() (lines []Line) {
	h := m.report.History
	draw := func(name string, values []int64) {
		values = slots(h.Time, values, m.report.IntervalSeconds, m.columns)
		head := pad(name, len("out"), false)
		if m.columns >= wide {
			most := rate(slices.Max(append([]int64{0}, values...)), m.bytes)
			head = pad(fmt.Sprintf("%s (%s at most)", name, most), len("out (1.23 Mbit/s at most)"), false)
		}
		lines = append(lines, Line{Text: head + " " + spark(values, m.columns-len(head)-1, m.ascii)})
	}
	draw("in", h.Receive)
	draw("out", h.Transmit)
	return lines
}

// slots returns at most so many values at regular times up to the last one. A time without a value has 0: nobody asked then.
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

// alarms draws what is wrong in a few lines, the most important first.
func (m *Model) alarms() (lines []Line) {
	var all []string
	switch {
	case m.failure == "":
	case m.waiting():
		all = append(all, m.failure)
	default:
		all = append(all, fmt.Sprintf("no answer since %s: %s", m.failed.Format(time.TimeOnly), m.failure))
	}
	all = append(all, m.captureAlarms()...)
	for _, w := range slices.Backward(m.warnings) {
		if m.now.Sub(w.at) < warningShown {
			all = append(all, w.text)
		}
	}
	shown := min(len(all), m.lines/6, 3)
	for _, text := range all[:shown] {
		lines = append(lines, Line{"! " + text, alarm})
	}
	if more := len(all) - shown; more > 0 && shown > 0 {
		lines[shown-1].Text += fmt.Sprintf(" (and %d more)", more)
	}
	return lines
}

// captureAlarms says what is wrong with the capture.
func (m *Model) captureAlarms() (all []string) {
	r := m.report
	for _, i := range r.Interfaces {
		if !i.Up && i.Backend != "" {
			all = append(all, i.Name+" is down or away")
		}
	}
	if m.devices() && !m.names() {
		all = append(all, "without --host-info no MAC is known, and each address stands by itself")
	}
	for _, i := range r.Interfaces {
		if i.DroppedRate > 0 {
			all = append(all, fmt.Sprintf("%s: %.3g packets/s are dropped, and not counted", i.Name, i.DroppedRate))
		}
	}
	if r.AddressesLimit > 0 && r.Addresses >= r.AddressesLimit {
		all = append(all, fmt.Sprintf("the table is full: addresses beyond %d count as other (see --max-ips)", r.AddressesLimit))
	}
	return all
}

// keys says what the keys do.
var keys = []string{
	"q quit", "arrows, page keys, j, k scroll", "g, G first, last", "s, S sort by", "1 rate", "2 in", "3 out", "4 total", "5 total in",
	"6 total out", "7 IP", "8 name", "r reverse", "d devices", "/ filter (Enter keeps, Escape clears)", "p pause", "u bits or bytes", "? less",
}

// foot draws what is below the table.
func (m *Model) foot() []Line {
	lines := m.helpLines()
	switch {
	case m.lines < minLinesForFoot:
		return lines
	case m.editing:
		return append(lines, Line{m.filterLine(), bold})
	}
	return append(lines, Line{Text: m.status()})
}

// helpLines draws what the keys do if the user wants to see that, in at most half of the lines.
func (m *Model) helpLines() (lines []Line) {
	for rest := keys; m.help && len(rest) > 0; {
		var text string
		text, rest = join(rest[0], rest[1:], m.columns)
		lines = append(lines, Line{Text: text})
	}
	return lines[:min(len(lines), m.lines/2)]
}

func (m *Model) filterLine() string { return "filter: " + clean(m.query.Filter, m.ascii) }

// sortNames are the names of talkers.Sorts on the screen.
var sortNames = map[string]string{
	"rate": "rate", "receive_rate": "in", "transmit_rate": "out", "total": "total", "receive_total": "total in", "transmit_total": "total out",
	"ip": "IP", "hostname": "name",
}

// status says which rows are on the screen, and how they are sorted and filtered.
func (m *Model) status() string {
	n := max(m.report.Matching, 0)
	text := fmt.Sprint(n)
	if page := m.page(); n > 0 && page > 0 {
		text = fmt.Sprintf("%d-%d of %d", m.first+1, min(m.first+page, n), n)
	}
	if m.devices() {
		text += " devices"
	}
	text += "  by " + sortNames[m.query.Sort] + " " + m.arrow()
	if m.query.Filter != "" {
		text += "  " + m.filterLine()
	}
	text, _ = join(text, []string{"? help", "q quit", "s sort", "/ filter", "p pause"}, m.columns)
	return text
}
