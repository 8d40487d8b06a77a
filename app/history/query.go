package history

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"sort"
	"time"

	"go.etcd.io/bbolt"
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
	Of       string     // only what this MAC, address, prefix or network moved, or "other"; empty: all
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

// Usage is what was received and transmitted in a span of time. The sums over rows and over steps are equal, as long as the zone is.
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

// errNoFile is the error of a query while there is no file.
var errNoFile = errors.New("history cannot be read now")

// Usage answers a query. Each period counts that starts in the span, rounded to the coarsest periods that it consists of, or to the finest
// that are still kept. The latest counts are included.
func (h *History) Usage(q Query) (Usage, error) {
	v, err := h.view(q)
	if err != nil {
		return Usage{}, err
	}
	defer v.close()
	usage := Usage{From: h.calendar.Start(v.rows, v.from), To: h.roundUp(v.rows, q.To), Since: v.since}
	moved, err := v.periods(v.rows, usage.From, usage.To)
	if err != nil {
		return Usage{}, err
	}
	names := namesOf(moved)
	all := rows{by: q.By, of: map[rowKey]*Row{}}
	for _, m := range moved {
		if w := names.of(m.who); w.is(q.Of) {
			all.add(w, m.volume)
		}
	}
	usage.Rows = all.sorted()
	usage.Steps = h.steps(v.steps, usage.From, usage.To, v.now)
	if len(usage.Steps) == 0 {
		return usage, nil
	}
	if v.steps != v.rows {
		if moved, err = v.periods(v.steps, usage.Steps[0].Start, usage.Steps[len(usage.Steps)-1].End); err != nil {
			return Usage{}, err
		}
	}
	for _, m := range moved {
		if names.of(m.who).is(q.Of) {
			// A period of another zone counts in the step in which it starts.
			i := sort.Search(len(usage.Steps), func(i int) bool { return usage.Steps[i].Start.Unix() > m.start }) - 1
			usage.Steps[max(i, 0)].Receive += m.receive
			usage.Steps[max(i, 0)].Transmit += m.transmit
		}
	}
	return usage, nil
}

// steps returns the periods of a span that have begun.
func (h *History) steps(r Resolution, from, to, now time.Time) (steps []Step) {
	for start := h.calendar.Start(r, from); start.Before(to) && !start.After(now); {
		end := h.calendar.End(r, start)
		steps = append(steps, Step{Start: start, End: end})
		start = end
	}
	return steps
}

// roundUp returns the end of the period that a span to t ends in.
func (h *History) roundUp(r Resolution, t time.Time) time.Time {
	if start := h.calendar.Start(r, t); start.Equal(t) {
		return start
	}
	return h.calendar.End(r, t)
}

// name returns an address or a prefix as text.
func (w *who) name() string {
	if w.bits == 0 {
		return w.addr.String()
	}
	return prefixOf(w.addr, w.bits).String()
}

// is tells whether a who is what a query is about. That of other is nil.
func (w *who) is(of string) bool {
	switch {
	case of == "":
		return true
	case w == nil:
		return of == otherID
	}
	return w.mac == of || w.name() == of || w.network == of
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

// view is what is known at one instant: the file, and the periods that are open.
type view struct {
	h           *History
	tx          *bbolt.Tx
	now         time.Time
	state       state
	since, from time.Time  // when the history and the span begin
	rows, steps Resolution // of the answer
	open        [resolutions][]moved
	late        []latePeriod
	whos        map[uint32]*who
}

// moved is what an address moved in a period. The who of other is nil.
type moved struct {
	start int64
	who   *who
	volume
}

// view reads the table, and begins to read the file.
func (h *History) view(q Query) (*view, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || h.db == nil {
		return nil, errNoFile
	}
	v := &view{h: h, now: h.config.Now(), whos: map[uint32]*who{}}
	if h.config.Table != nil {
		h.observe(v.now)
	}
	v.state, v.late = h.state, slices.Clone(h.late)
	err := explain(guard(func() (err error) {
		v.tx, err = h.db.Begin(false)
		return err
	}))
	if err != nil {
		if errors.Is(err, errDamaged) {
			h.damaged.Store(true) // the next write puts the file aside
		}
		return nil, err
	}
	if v.since, err = v.begin(); err != nil {
		v.close()
		return nil, err
	}
	if v.from = q.From; v.from.IsZero() {
		v.from = v.since
	}
	v.rows, v.steps = v.coarsest(v.from, q.To), q.Steps
	if v.steps == Fitting {
		v.steps = fitting(q.To.Sub(v.from))
	}
	for v.steps < Month && v.state.dropped[v.steps] > v.from.Unix() {
		v.steps++
	}
	for i := range h.hosts {
		at := &h.hosts[i]
		var w *who
		for _, r := range []Resolution{v.rows, v.steps}[:v.resolutions()] {
			volume := at.movedIn(r, &h.state.open[r])
			if volume.isZero() {
				continue
			}
			if w == nil {
				w = h.whoOf(&at.subject)
			}
			v.open[r] = append(v.open[r], moved{h.state.open[r].start, w, volume})
		}
	}
	for _, r := range []Resolution{v.rows, v.steps}[:v.resolutions()] {
		if volume := h.other.movedIn(r, &h.state.open[r]); !volume.isZero() {
			v.open[r] = append(v.open[r], moved{h.state.open[r].start, nil, volume})
		}
	}
	return v, nil
}

// resolutions returns how many different ones the answer needs.
func (v *view) resolutions() int {
	if v.rows == v.steps {
		return 1
	}
	return 2
}

// whoOf returns what an address is known as now.
func (h *History) whoOf(of *subject) *who {
	w := &who{addr: of.addr, bits: of.bits}
	if h.config.Info != nil {
		info := h.config.Info(of.addr)
		w.mac, w.hostname, w.network = info.MAC, info.Hostname, info.Network
	}
	return w
}

func (v *view) close() { guard(v.tx.Rollback) }

// coarsest returns the coarsest resolution whose periods, all of them kept, a span consists of. Else it is the finest resolution that still
// has all periods from the start on, or the one that has the earliest.
func (v *view) coarsest(from, to time.Time) Resolution {
	c := v.h.calendar
	for r := Month; ; r-- {
		if c.Start(r, from).Equal(from) && (to.After(v.now) || c.Start(r, to).Equal(to)) && v.state.dropped[r] <= from.Unix() {
			return r
		}
		if r == FiveMinutes {
			break
		}
	}
	best := FiveMinutes
	for r := range resolutions {
		if v.state.dropped[r] <= from.Unix() {
			return r
		}
		if v.state.dropped[r] < v.state.dropped[best] {
			best = r
		}
	}
	return best
}

// begin returns when the history began: the start of the first period of the finest resolution that has all, else of months. It is now if
// there is none.
func (v *view) begin() (since time.Time, err error) {
	r := FiveMinutes
	for r < Month && v.state.dropped[r] != 0 {
		r++
	}
	start := v.state.open[r].start
	err = explain(guard(func() error {
		if b := v.tx.Bucket(r.bucket()); b != nil {
			if key, _ := b.Cursor().First(); key != nil {
				first, err := parseStart(key)
				start = min(start, first)
				return err
			}
		}
		return nil
	}))
	if v.state.open[r].number == 0 {
		return v.now, err
	}
	return time.Unix(start, 0).In(v.h.calendar.Zone), err
}

// periods returns what was moved in the periods that start in a span.
func (v *view) periods(r Resolution, from, to time.Time) (all []moved, err error) {
	err = explain(guard(func() error {
		b := v.tx.Bucket(r.bucket())
		if b == nil {
			return nil
		}
		until, c := startKey(to.Unix()), b.Cursor()
		for key, sealed := c.Seek(startKey(from.Unix())); key != nil && bytes.Compare(key, until) < 0; key, sealed = c.Next() {
			start, err := parseStart(key)
			if err != nil {
				return err
			}
			in, err := readVolumes(key, sealed)
			if err != nil {
				return err
			}
			all = slices.Grow(all, len(in.of)+1)
			for _, e := range in.of {
				w, err := v.who(e.who)
				if err != nil {
					return err
				}
				all = append(all, moved{start, w, e.volume})
			}
			if !in.other.isZero() {
				all = append(all, moved{start, nil, in.other})
			}
		}
		return nil
	}))
	if errors.Is(err, errDamaged) {
		v.h.damaged.Store(true) // the next write puts the file aside
	}
	if err != nil {
		return nil, err
	}
	inSpan := func(start int64) bool { return start >= from.Unix() && start < to.Unix() }
	for i := range v.late {
		if l := &v.late[i]; l.resolution == r && inSpan(l.start) {
			for _, of := range l.items {
				all = append(all, moved{l.start, v.h.whoOf(of.subject), of.volume})
			}
			if !l.other.isZero() {
				all = append(all, moved{l.start, nil, l.other})
			}
		}
	}
	if inSpan(v.state.open[r].start) {
		all = append(all, v.open[r]...)
	}
	return all, nil
}

// lastKnown has, for addresses, what they were last known as with a MAC. Before promflow learns a MAC, an address moves bytes already.
type lastKnown map[netip.Prefix]*who

// namesOf returns what addresses were last known as.
func namesOf(all []moved) lastKnown {
	names, last := lastKnown{}, map[netip.Prefix]int64{}
	for _, m := range all {
		if m.who == nil || m.who.mac == "" {
			continue
		}
		at := prefixOf(m.who.addr, m.who.bits)
		if start, ok := last[at]; !ok || m.start >= start {
			names[at], last[at] = m.who, m.start
		}
	}
	return names
}

// of returns a who, or what its address was last known as if it has no MAC.
func (n lastKnown) of(w *who) *who {
	if w != nil && w.mac == "" {
		return cmp.Or(n[prefixOf(w.addr, w.bits)], w)
	}
	return w
}

// who returns what has a number in the file.
func (v *view) who(number uint32) (*who, error) {
	if w := v.whos[number]; w != nil {
		return w, nil
	}
	key := binary.BigEndian.AppendUint32(nil, number)
	value, err := unseal(key, v.tx.Bucket(whoBucket).Get(key))
	if err != nil {
		return nil, err
	}
	w, err := parseWho(value)
	if err != nil {
		return nil, err
	}
	v.whos[number] = &w
	return &w, nil
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
			key.text, id = w.network, w.network
		case r.by == ByDevice && w.mac != "":
			key.text, id = w.mac, w.mac
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
	row.Network = cmp.Or(w.network, row.Network)
	if r.by != ByNetwork {
		row.MAC, row.Hostname = cmp.Or(w.mac, row.MAC), cmp.Or(w.hostname, row.Hostname)
		if addr := prefixOf(w.addr, w.bits); len(row.Addrs) == 0 || row.Addrs[len(row.Addrs)-1] != addr {
			row.Addrs = append(row.Addrs, addr)
		}
	}
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
