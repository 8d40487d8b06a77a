package top

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"promflow/telemetry/talkers"
)

type column struct {
	title string
	width int // 0: there is no room for the column
	right bool
	sorts []string // the orders that mark this column
	cell  func(*talkers.Talker) string
}

// Widths of columns, in characters.
const (
	ipWidth      = 15 // of IPv4
	rateWidth    = 11 // 1.23 Mbit/s
	sizeWidth    = 8  // 1.23 GB, and a title
	shareWidth   = 7  // 100.0 %
	nameWidth    = 8  // at least
	deviceWidth  = 17 // of a MAC
	maxNameWidth = 64
	sparkWidth   = 11 // at least, for the title
	maxSpark     = 30 // readings in a minute
	minIPWidth   = 7  // on the narrowest terminals
	wide         = 64 // terminals of this width have two spaces between columns
)

// tableColumns returns the columns for which there is room, and the number of spaces between them. most is the width of the terminal, or 0
// for text that is not drawn on one: that has all columns except the history.
func (m *Model) tableColumns(rows []talkers.Talker, most int) (columns []column, gap int) {
	text := most == 0
	if text {
		most = 1 << 30
	}
	ip, longestName := ipWidth, nameWidth
	for i := range rows {
		ip = max(ip, width(m.address(&rows[i], most)))
		longestName = max(longestName, width(m.name(&rows[i])))
	}
	longestName = min(longestName, maxNameWidth)
	gap = 1
	if most >= wide {
		gap = 2
	}
	title, shortestName := "NAME", nameWidth
	if m.devices() {
		title, shortestName = "DEVICE", min(longestName, deviceWidth)
		if room := most - gap - shortestName - 2*(gap+rateWidth); m.report.Names && room >= ipWidth {
			ip = min(ip, room) // the name tells more
		}
	}
	in, out := rateWidth, rateWidth
	left := most - ip - 2*(gap+rateWidth)
	if left < 0 && ip+left < 2*minIPWidth { // such short addresses look alike: drop one of the rates
		if m.query.Sort == "transmit_rate" {
			in = 0
		} else {
			out = 0
		}
		left += gap + rateWidth
	}
	ip += min(left, 0)
	if ip < minIPWidth {
		ip, in, out = most, 0, 0
	}
	take := func(wanted bool, width int) int {
		if !wanted || left < gap+width {
			return 0
		}
		left -= gap + width
		return width
	}
	name := take(m.report.Names, shortestName)
	part := take(true, shareWidth)
	total := min(take(true, sizeWidth+gap+sizeWidth), sizeWidth)
	history := take(!text, sparkWidth)
	if name > 0 {
		more := min(left, longestName-name)
		name, left = name+more, left-more
	}
	if history > 0 {
		history = min(history+left, maxSpark)
	}

	columns = []column{
		{"IP", ip, false, []string{"ip"}, func(k *talkers.Talker) string { return m.address(k, ip) }},
		{title, name, false, []string{"hostname"}, m.name},
		{"IN", in, true, []string{"receive_rate", "rate"}, func(k *talkers.Talker) string { return m.rate(k.ReceiveRate) }},
		{"OUT", out, true, []string{"transmit_rate", "rate"}, func(k *talkers.Talker) string { return m.rate(k.TransmitRate) }},
		{"TOT IN", total, true, []string{"receive_total", "total"}, func(k *talkers.Talker) string { return size(k.ReceiveTotal) }},
		{"TOT OUT", total, true, []string{"transmit_total", "total"}, func(k *talkers.Talker) string { return size(k.TransmitTotal) }},
		{"SHARE", part, true, nil, func(k *talkers.Talker) string {
			if !m.rates() {
				return "-"
			}
			return share(k.Share)
		}},
		{"LAST MINUTE", history, false, nil, func(k *talkers.Talker) string { return spark(k.History, history, m.ascii) }},
	}
	return slices.DeleteFunc(columns, func(c column) bool { return c.width == 0 }), gap
}

// address writes the address of a talker in so many columns and, of a device, how many more it has.
func (m *Model) address(k *talkers.Talker, columns int) string {
	more := ""
	if n := len(k.IPs); m.devices() && n > 1 {
		more = fmt.Sprintf(" +%d", n-1)
		if n == talkers.MaxIPs { // no more are listed
			more += ellipsis(m.ascii)
		}
	}
	return cutMiddle(clean(k.IP, m.ascii), columns-width(more), m.ascii) + more
}

// name writes the hostname of a talker. A device without one has its MAC.
func (m *Model) name(k *talkers.Talker) string {
	name := k.Hostname
	if m.devices() {
		name = cmp.Or(name, k.MAC)
	}
	return clean(name, m.ascii)
}

// rate writes a rate, if there are any.
func (m *Model) rate(bytes int64) string {
	if !m.rates() {
		return "-"
	}
	return rate(bytes, m.bytes)
}

// title is the title of a column, with a mark if the talkers are sorted by it.
func (m *Model) title(c column) string {
	if !slices.Contains(c.sorts, m.query.Sort) {
		return c.title
	}
	return c.title + m.arrow()
}

// arrow points down if the highest comes first.
func (m *Model) arrow() string {
	down, up := "▼", "▲"
	if m.ascii {
		down, up = "v", "^"
	}
	if m.query.Reverse == (m.query.Sort == "ip" || m.query.Sort == "hostname") {
		return down
	}
	return up
}

// table writes the title and the rows of a table of talkers.
func (m *Model) table(rows []talkers.Talker, width int) (title string, lines []string) {
	columns, gap := m.tableColumns(rows, width)
	join := func(cell func(column) string) string {
		var cells []string
		for _, c := range columns {
			cells = append(cells, pad(cut(cell(c), c.width, m.ascii), c.width, c.right))
		}
		return strings.TrimRight(strings.Join(cells, strings.Repeat(" ", gap)), " ")
	}
	for i := range rows {
		lines = append(lines, join(func(c column) string { return c.cell(&rows[i]) }))
	}
	return join(m.title), lines
}
