package top

import (
	"cmp"
	"slices"
	"strings"

	"promflow/telemetry/talkers"
)

// table writes talkers in rows.
type table struct {
	units   units
	ascii   bool
	sort    string
	reverse bool
	names   bool // there are names
	rates   bool // there are rates; the first reading has none
}

// newTable makes the table for a report that answers q.
func newTable(u units, ascii bool, q talkers.Query, r *talkers.Report) table {
	return table{u, ascii, cmp.Or(q.Sort, talkers.Sorts[0]), q.Reverse, r.Names, r.WindowSeconds > 0}
}

type column struct {
	title string
	width int // 0: there is no room for the column
	right bool
	sorts []string // the orders that mark this column
	cell  func(k *talkers.Talker, width int) string
}

// Widths of columns, in characters.
const (
	ipWidth      = 15 // of IPv4
	rateWidth    = 11 // 1.23 Mbit/s
	sizeWidth    = 8  // 1.23 GB, and a title
	shareWidth   = 7  // 100.0 %
	nameWidth    = 8  // at least
	maxNameWidth = 64
	sparkWidth   = 11 // at least, for the title
	maxSpark     = 30 // readings in a minute
	minIPWidth   = 7  // on the narrowest terminals
	wide         = 64 // terminals of this width have two spaces between columns
)

// columns returns the columns for which a terminal has room, and the number of spaces between them. A width of 0 is for text that is not
// drawn on a terminal: it has all columns except the history.
func (t table) columns(rows []talkers.Talker, width int) (columns []column, gap int) {
	text := width == 0
	if text {
		width = 1 << 30
	}
	ip, longestName := ipWidth, nameWidth
	for i := range rows {
		ip = max(ip, displayed(rows[i].IP, t.ascii))
		longestName = max(longestName, displayed(rows[i].Hostname, t.ascii))
	}
	longestName = min(longestName, maxNameWidth)
	gap = 1
	if width >= wide {
		gap = 2
	}
	in, out := rateWidth, rateWidth
	left := width - ip - 2*(gap+rateWidth)
	if left < 0 && ip+left < 2*minIPWidth { // such short addresses look alike: drop one of the rates
		if t.sort == "transmit_rate" {
			in = 0
		} else {
			out = 0
		}
		left += gap + rateWidth
	}
	ip += min(left, 0)
	if ip < minIPWidth {
		ip, in, out = width, 0, 0
	}
	take := func(width int) int {
		if left < gap+width {
			return 0
		}
		left -= gap + width
		return width
	}
	name, total, history := 0, 0, 0
	if t.names {
		name = take(nameWidth)
	}
	part := take(shareWidth)
	if take(sizeWidth+gap+sizeWidth) > 0 {
		total = sizeWidth
	}
	if !text {
		history = take(sparkWidth)
	}
	if name > 0 {
		more := min(left, longestName-name)
		name, left = name+more, left-more
	}
	if history > 0 {
		history = min(history+left, maxSpark)
	}

	rate := func(bytes int64) string {
		if !t.rates {
			return "-"
		}
		return t.units.rate(bytes)
	}
	columns = []column{
		{"IP", ip, false, []string{"ip"}, func(k *talkers.Talker, width int) string { return cutMiddle(clean(k.IP, t.ascii), width, t.ascii) }},
		{"NAME", name, false, []string{"hostname"}, func(k *talkers.Talker, _ int) string { return clean(k.Hostname, t.ascii) }},
		{"IN", in, true, []string{"receive_rate", "rate"}, func(k *talkers.Talker, _ int) string { return rate(k.ReceiveRate) }},
		{"OUT", out, true, []string{"transmit_rate", "rate"}, func(k *talkers.Talker, _ int) string { return rate(k.TransmitRate) }},
		{"TOT IN", total, true, []string{"receive_total", "total"}, func(k *talkers.Talker, _ int) string { return size(k.ReceiveTotal) }},
		{"TOT OUT", total, true, []string{"transmit_total", "total"}, func(k *talkers.Talker, _ int) string { return size(k.TransmitTotal) }},
		{"SHARE", part, true, nil, func(k *talkers.Talker, _ int) string {
			if !t.rates {
				return "-"
			}
			return share(k.Share)
		}},
		{"LAST MINUTE", history, false, nil, func(k *talkers.Talker, width int) string { return spark(k.History, width, t.ascii) }},
	}
	return slices.DeleteFunc(columns, func(c column) bool { return c.width == 0 }), gap
}

// displayed is the width of a text that is yet to be cleaned.
func displayed(s string, ascii bool) int { return width(clean(s, ascii)) }

// title is the title of a column, with a mark if the talkers are sorted by it.
func (t table) title(c column) string {
	if !slices.Contains(c.sorts, t.sort) {
		return c.title
	}
	return c.title + arrow(t.descends(), t.ascii)
}

// descends tells whether the highest comes first.
func (t table) descends() bool { return (t.sort == "ip" || t.sort == "hostname") == t.reverse }

func arrow(down, ascii bool) string {
	switch {
	case down && ascii:
		return "v"
	case down:
		return "▼"
	case ascii:
		return "^"
	}
	return "▲"
}

// lines writes the title and the rows.
func (t table) lines(rows []talkers.Talker, width int) (title string, lines []string) {
	columns, gap := t.columns(rows, width)
	join := func(cell func(column) string) string {
		var cells []string
		for _, c := range columns {
			cells = append(cells, pad(cut(cell(c), c.width, t.ascii), c.width, c.right))
		}
		return strings.TrimRight(strings.Join(cells, strings.Repeat(" ", gap)), " ")
	}
	title = join(t.title)
	for i := range rows {
		lines = append(lines, join(func(c column) string { return c.cell(&rows[i], c.width) }))
	}
	return title, lines
}
