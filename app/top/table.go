package top

import (
	"slices"
	"strings"

	"promflow/telemetry/talkers"
)

// table is how talkers are written in rows.
type table struct {
	units   units
	ascii   bool
	sort    string
	reverse bool
	names   bool // there are names
	rates   bool // there are rates: not in the first reading
}

// column is one of the table's.
type column struct {
	title string
	width int
	right bool
	sorts []string // what the talkers are sorted by if it has the mark
	cell  func(*talkers.Talker) string
}

// How wide columns are, in characters.
const (
	ipWidth      = 15 // of IPv4
	rateWidth    = 11 // 1.23 Mbit/s
	sizeWidth    = 8  // 1.23 GB, and a title
	shareWidth   = 7  // 100.0 %
	nameWidth    = 8  // at least
	nameMost     = 64
	sparkWidth   = 11 // at least: a title
	sparkMost    = 30 // readings in a minute
	leastAddress = 7  // when nearly nothing is left
	wide         = 64 // from here on, two spaces are between columns
)

// columns gives those for which there is room, and the space between them. A width of 0 is as much as it takes, for text that
// nobody watches: all columns but the drawn one.
func (t table) columns(rows []talkers.Talker, width int) (columns []column, gap int) {
	ip := column{title: "IP", width: ipWidth, sorts: []string{"ip"}}
	ip.cell = func(k *talkers.Talker) string { return cutMiddle(clean(k.IP, t.ascii), ip.width, t.ascii) }
	name := column{title: "NAME", width: nameWidth, sorts: []string{"hostname"}}
	name.cell = func(k *talkers.Talker) string { return cut(clean(k.Hostname, t.ascii), name.width, t.ascii) }
	longestName := nameWidth
	for i := range rows {
		ip.width = max(ip.width, widthOf(rows[i].IP, t.ascii))
		longestName = max(longestName, widthOf(rows[i].Hostname, t.ascii))
	}
	longestName = min(longestName, nameMost)
	history := column{title: "LAST MINUTE", width: sparkWidth}
	history.cell = func(k *talkers.Talker) string { return spark(k.History, history.width, t.ascii) }
	rate := func(title, sort string, of func(*talkers.Talker) int64) column {
		return column{title: title, width: rateWidth, right: true, sorts: []string{sort, "rate"}, cell: func(k *talkers.Talker) string {
			if !t.rates {
				return "-"
			}
			return t.units.rate(of(k))
		}}
	}
	total := func(title, sort string, of func(*talkers.Talker) int64) column {
		return column{title: title, width: sizeWidth, right: true, sorts: []string{sort, "total"}, cell: func(k *talkers.Talker) string { return size(of(k)) }}
	}
	in := rate("IN", "receive_rate", func(k *talkers.Talker) int64 { return k.ReceiveRate })
	out := rate("OUT", "transmit_rate", func(k *talkers.Talker) int64 { return k.TransmitRate })
	of := column{title: "SHARE", width: shareWidth, right: true, cell: func(k *talkers.Talker) string {
		if !t.rates {
			return "-"
		}
		return share(k.Share)
	}}
	totalIn := total("TOT IN", "receive_total", func(k *talkers.Talker) int64 { return k.ReceiveTotal })
	totalOut := total("TOT OUT", "transmit_total", func(k *talkers.Talker) int64 { return k.TransmitTotal })

	if width == 0 {
		name.width = longestName
		columns = []column{ip, name, in, out, totalIn, totalOut, of}
		if !t.names {
			columns = slices.Delete(columns, 1, 2)
		}
		return columns, 2
	}

	gap = 1
	if width >= wide {
		gap = 2
	}
	rates := []column{in, out}
	left := width - ip.width - 2*(gap+rateWidth)
	if left < 0 && ip.width+left < 2*leastAddress { // not even for what tells an address from others: one of the rates has to go
		rates = rates[:1]
		if t.sort == "transmit_rate" {
			rates[0] = out
		}
		left += gap + rateWidth
	}
	if left < 0 {
		ip.width += left
	}
	if ip.width < leastAddress {
		ip.width = width
		return []column{ip}, gap
	}
	takes := func(w int, wanted bool) bool {
		if !wanted || left < gap+w {
			return false
		}
		left -= gap + w
		return true
	}
	hasName := takes(nameWidth, t.names)
	hasShare := takes(shareWidth, true)
	hasTotals := takes(sizeWidth+gap+sizeWidth, true)
	hasHistory := takes(sparkWidth, true)
	if hasName {
		more := min(max(left, 0), longestName-nameWidth)
		name.width, left = name.width+more, left-more
	}
	if hasHistory {
		history.width += min(max(left, 0), sparkMost-sparkWidth)
	}
	add := func(is bool, some ...column) {
		if is {
			columns = append(columns, some...)
		}
	}
	add(true, ip)
	add(hasName, name)
	add(true, rates...)
	add(hasTotals, totalIn, totalOut)
	add(hasShare, of)
	add(hasHistory, history)
	return columns, gap
}

func widthOf(s string, ascii bool) int { return width(clean(s, ascii)) }

// title is a column's, with a mark if the talkers are sorted by it.
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
		lines = append(lines, join(func(c column) string { return c.cell(&rows[i]) }))
	}
	return title, lines
}
