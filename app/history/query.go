package history

import (
	"cmp"
	"net/netip"
	"slices"
	"sort"
	"strings"
	"time"
)

// By is what the rows of a usage are.
type By uint8

// The kinds of rows.
const (
	ByDevice  By = iota // a MAC address with all its IP addresses; an address without a MAC stands by itself
	ByIP                // an address, or a prefix
	ByNetwork           // a monitored subnet, by its name
)

// Query asks what was moved in a span of time.
type Query struct {
	From, To time.Time // From may be zero: since the history began
	By       By
	Of       string     // only what this MAC, address, prefix or network moved, or "other", as in Row.ID; empty: all
	Steps    Resolution // of Usage.Steps, or Fitting; a coarser one where its periods are no longer kept
}

// Fitting is the resolution that has some dozens of steps.
const Fitting = resolutions

// fitting returns the resolution that has some dozens of steps in a span.
func fitting(span time.Duration) Resolution {
	switch {
	case span <= 4*time.Hour:
		return FiveMinutes
	case span <= 50*time.Hour: // two days when the clocks change
		return Hour
	case span <= 63*day: // two months
		return Day
	}
	return Month
}

// Usage is what was received and transmitted in a span of time. The sums over rows and over steps are equal.
type Usage struct {
	From, To time.Time // of whole periods; the last one may not have ended
	Since    time.Time // when the history began, as far as is known: the start of a period
	Rows     []Row     // those that moved most come first
	Steps    []Step    // all that have begun, oldest first
}

// Row is one device, address or network, with the bytes that it moved.
type Row struct {
	ID                string         // for Query.Of: the MAC of a device, else the address or prefix; the network; "other"
	Other             bool           // all that have no row of their own
	Addrs             []netip.Prefix // a single address has all bits
	MAC               string         // of a device, or of an address at last
	Hostname          string         // at last
	Network           string         // at last
	Receive, Transmit int64
}

// Step is a period of a series. The last one may not have ended.
type Step struct {
	Start, End        time.Time
	Receive, Transmit int64
}

// Usage answers a query. Each period counts whose middle is in the span, which is rounded to whole ones. The latest counts are included.
func (h *History) Usage(q Query) (Usage, error) {
	v, err := h.view(q)
	if err != nil {
		return Usage{}, err
	}
	defer v.close()
	usage := Usage{From: v.from, To: v.to, Since: v.since, Steps: v.stepsOf()}
	addToStep := func(middle int64, more volume) {
		i := sort.Search(len(usage.Steps), func(i int) bool { return usage.Steps[i].Start.Unix() > middle }) - 1
		if i >= 0 {
			usage.Steps[i].Receive += more.receive
			usage.Steps[i].Transmit += more.transmit
		}
	}
	err = v.each(func(middle int64, of *tally, more volume) {
		of.add(more)
		of.last = max(of.last, middle)
		if q.Of == "" {
			addToStep(middle, more)
		}
	})
	if err != nil {
		return Usage{}, err
	}
	all, err := v.resolve()
	if err != nil {
		return Usage{}, err
	}
	names := namesOf(all)
	rows := rows{by: q.By, of: map[rowKey]*Row{}}
	for _, t := range all {
		w := t.who
		if q.By != ByNetwork { // it has moved that in the network of then
			w = names.of(w)
		}
		if t.asked = w.is(q); t.asked {
			rows.add(w, t.volume)
		}
	}
	usage.Rows = rows.sorted()
	if q.Of != "" {
		err = v.each(func(middle int64, of *tally, more volume) {
			if of.asked {
				addToStep(middle, more)
			}
		})
	}
	return usage, err
}

// name returns an address or a prefix as text.
func (w *who) name() string {
	if w.bits == 0 {
		return w.addr.String()
	}
	return prefixOf(w.addr, w.bits).String()
}

// is tells whether a who is what a query is about. That of other is nil.
func (w *who) is(q Query) bool {
	switch {
	case q.Of == "":
		return true
	case w == nil || q.By == ByNetwork && w.Network == "":
		return strings.EqualFold(q.Of, otherID)
	}
	return w.MAC == q.Of || w.name() == q.Of || strings.EqualFold(w.Network, q.Of)
}

// otherID is the ID of the row of other.
const otherID = "other"

// Text writes an address, or a prefix.
func Text(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// lastKnown has, for addresses, what they were last known as with a MAC. Before promflow learns a MAC, an address moves bytes already.
type lastKnown map[netip.Prefix]*who

// namesOf returns what addresses were last known as. The latest tallies come last.
func namesOf(all []*tally) lastKnown {
	names := lastKnown{}
	for _, t := range all {
		if t.who != nil && t.who.MAC != "" {
			names[prefixOf(t.who.addr, t.who.bits)] = t.who
		}
	}
	return names
}

// of returns a who, or what its address was last known as if it has no MAC.
func (n lastKnown) of(w *who) *who {
	if w != nil && w.MAC == "" {
		return cmp.Or(n[prefixOf(w.addr, w.bits)], w)
	}
	return w
}

// rows adds up rows.
type rows struct {
	by By
	of map[rowKey]*Row
}

// rowKey identifies a row. It is zero for other.
type rowKey struct {
	prefix netip.Prefix
	text   string // a MAC or a network
}

func (r *rows) add(w *who, more volume) {
	var key rowKey
	id := otherID
	if w != nil {
		switch {
		case r.by == ByNetwork:
			key.text, id = w.Network, w.Network
		case r.by == ByDevice && w.MAC != "":
			key.text, id = w.MAC, w.MAC
		default:
			key.prefix = prefixOf(w.addr, w.bits)
		}
	}
	row := r.of[key]
	if row == nil {
		if key.prefix.IsValid() {
			id = w.name()
		}
		row = &Row{ID: cmp.Or(id, otherID), Other: key == rowKey{}}
		r.of[key] = row
	}
	row.Receive += more.receive
	row.Transmit += more.transmit
	if row.Other {
		return
	}
	row.Network = cmp.Or(w.Network, row.Network)
	if r.by != ByNetwork {
		row.MAC, row.Hostname = cmp.Or(w.MAC, row.MAC), cmp.Or(w.Hostname, row.Hostname)
	}
	row.Addrs = append(row.Addrs, prefixOf(w.addr, w.bits))
}

// sorted returns the rows, those that moved most first, and other last.
func (r *rows) sorted() []Row {
	all := make([]Row, 0, len(r.of))
	for _, row := range r.of {
		if len(row.Addrs) > 1 {
			slices.SortFunc(row.Addrs, netip.Prefix.Compare)
			row.Addrs = slices.Compact(row.Addrs)
		}
		all = append(all, *row)
	}
	slices.SortFunc(all, compareRows)
	return all
}

// compareRows puts what moved most first, and other last.
func compareRows(a, b Row) int {
	if a.Other != b.Other {
		if a.Other {
			return 1
		}
		return -1
	}
	if c := cmp.Compare(b.Receive+b.Transmit, a.Receive+a.Transmit); c != 0 {
		return c
	}
	if c := cmp.Or(cmp.Compare(a.MAC, b.MAC), cmp.Compare(a.Network, b.Network)); c != 0 {
		return c
	}
	return slices.CompareFunc(a.Addrs, b.Addrs, netip.Prefix.Compare)
}
