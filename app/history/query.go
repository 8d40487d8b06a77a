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

// Usage is what was received and transmitted in a span of time.
type Usage struct {
	From, To time.Time // of whole periods; the last one may not have ended
	Rows     []Row     // those that moved most come first
}

// Row is one device, address or network, with the bytes that it moved.
type Row struct {
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

// Usage returns what was moved from one time to another. Each period counts that starts in this span, rounded to the periods of the finest
// resolution that still has all of them. The latest counts are included.
func (h *History) Usage(from, to time.Time, by By) (Usage, error) {
	v, err := h.view()
	if err != nil {
		return Usage{}, err
	}
	defer v.close()
	r := v.covering(from)
	usage := Usage{From: h.calendar.Start(r, from), To: to}
	if start := h.calendar.Start(r, to); !start.Equal(to) {
		usage.To = h.calendar.End(r, to)
	}
	var all []*named
	var other volume
	err = v.periods(r, usage.From.Unix(), usage.To.Unix(), func(start int64, w *named, moved volume) {
		if w == nil {
			other.add(moved)
			return
		}
		if w.moved == (volume{}) {
			all = append(all, w)
		}
		w.moved.add(moved)
		w.last = start
	})
	// Names are those of the last period in which there were some.
	slices.SortStableFunc(all, func(a, b *named) int { return cmp.Compare(a.last, b.last) })
	rows := rows{by: by, of: map[rowKey]*rowOf{}}
	for _, w := range all {
		rows.add(&w.who, w.moved)
	}
	if other != (volume{}) {
		rows.add(nil, other)
	}
	usage.Rows = rows.sorted()
	return usage, err
}

// Series returns what was moved in the last n periods of a resolution, oldest first. The last one has not ended. of is the MAC or the address
// of the device that counts; empty, all do.
func (h *History) Series(r Resolution, n int, of string) ([]Step, error) {
	v, err := h.view()
	if err != nil {
		return nil, err
	}
	defer v.close()
	start := h.calendar.Back(r, v.now, n-1)
	var steps []Step
	for range n {
		end := h.calendar.End(r, start)
		steps = append(steps, Step{Start: start, End: end})
		start = end
	}
	err = v.periods(r, steps[0].Start.Unix(), start.Unix(), func(start int64, w *named, moved volume) {
		if of == "" || w != nil && (w.mac == of || w.name() == of) {
			// A period of another zone counts in the step in which it starts.
			i := sort.Search(len(steps), func(i int) bool { return steps[i].Start.Unix() > start }) - 1
			steps[i].Receive += moved.receive
			steps[i].Transmit += moved.transmit
		}
	})
	return steps, err
}

// name returns an address or a prefix as text.
func (w *who) name() string {
	if w.bits == 0 {
		return w.addr.String()
	}
	return prefixOf(w.addr, w.bits).String()
}

// view is what is known at one instant: the file, and the periods that are open.
type view struct {
	h     *History
	tx    *bbolt.Tx
	now   time.Time
	state state
	moved [resolutions][]ofHost // in the open periods
	other [resolutions]volume
	late  []latePeriod
	whos  map[uint32]*named
}

// named is what an address was known as, and what it moved.
type named struct {
	who
	moved volume
	last  int64 // the start of the last period in which it did
}

type ofHost struct {
	who *named
	volume
}

// view reads the table, and begins to read the file.
func (h *History) view() (*view, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || h.db == nil {
		return nil, errNoFile
	}
	v := &view{h: h, now: h.config.Now(), whos: map[uint32]*named{}}
	if h.config.Table != nil {
		h.observe(v.now)
	}
	v.state, v.late = h.state, slices.Clone(h.late)
	for i := range h.hosts {
		at := &h.hosts[i]
		var w *named
		for r := range resolutions {
			moved := at.movedIn(r, &h.state.open[r])
			if moved == (volume{}) {
				continue
			}
			if w == nil {
				w = h.named(at.addr, at.bits)
			}
			v.moved[r] = append(v.moved[r], ofHost{w, moved})
		}
	}
	for r := range resolutions {
		v.other[r] = h.other.movedIn(r, &h.state.open[r])
	}
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
	return v, nil
}

// named returns an address with what is known of it now.
func (h *History) named(addr netip.Addr, bits int) *named {
	w := &named{who: who{addr: addr, bits: bits}}
	if h.config.Info != nil {
		info := h.config.Info(addr)
		w.mac, w.hostname, w.network = info.MAC, info.Hostname, info.Network
	}
	return w
}

func (v *view) close() { guard(v.tx.Rollback) }

// covering returns the finest resolution that still has all periods from a time on, or the one that has the earliest.
func (v *view) covering(from time.Time) Resolution {
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

// periods calls each for what was moved in the periods that start in a span, oldest first. The who of other is nil.
func (v *view) periods(r Resolution, from, to int64, each func(start int64, w *named, moved volume)) error {
	err := explain(guard(func() error {
		b := v.tx.Bucket(r.bucket())
		if b == nil {
			return nil
		}
		until, c := startKey(to), b.Cursor()
		for key, sealed := c.Seek(startKey(from)); key != nil && bytes.Compare(key, until) < 0; key, sealed = c.Next() {
			start, err := parseStart(key)
			if err != nil {
				return err
			}
			in, err := readVolumes(key, sealed)
			if err != nil {
				return err
			}
			for _, e := range in.of {
				w, err := v.who(e.who)
				if err != nil {
					return err
				}
				each(start, w, e.volume)
			}
			if in.other != (volume{}) {
				each(start, nil, in.other)
			}
		}
		return nil
	}))
	if errors.Is(err, errDamaged) {
		v.h.damaged.Store(true) // the next write puts the file aside
	}
	for i := range v.late {
		if l := &v.late[i]; err == nil && l.resolution == r && l.start >= from && l.start < to {
			for _, of := range l.items {
				each(l.start, v.h.named(of.addr, of.bits), of.volume)
			}
			if l.other != (volume{}) {
				each(l.start, nil, l.other)
			}
		}
	}
	open := v.state.open[r].start
	if err != nil || open < from || open >= to {
		return err
	}
	for _, o := range v.moved[r] {
		each(open, o.who, o.volume)
	}
	if v.other[r] != (volume{}) {
		each(open, nil, v.other[r])
	}
	return nil
}

// who returns what has a number in the file.
func (v *view) who(number uint32) (*named, error) {
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
	n := &named{who: w}
	v.whos[number] = n
	return n, nil
}

// rows adds up rows.
type rows struct {
	by By
	of map[rowKey]*rowOf
}

// rowKey identifies a row. It is zero for other.
type rowKey struct {
	prefix netip.Prefix
	text   string // a MAC or a network
}

type rowOf struct {
	Row
	addrs map[netip.Prefix]bool
}

func (r *rows) add(w *who, moved volume) {
	var key rowKey
	if w != nil {
		switch {
		case r.by == ByNetwork:
			key.text = w.network
		case r.by == ByDevice && w.mac != "":
			key.text = w.mac
		default:
			key.prefix = prefixOf(w.addr, w.bits)
		}
	}
	row := r.of[key]
	if row == nil {
		row = &rowOf{Row: Row{Other: key == rowKey{}}, addrs: map[netip.Prefix]bool{}}
		r.of[key] = row
	}
	row.Receive += moved.receive
	row.Transmit += moved.transmit
	if w == nil || row.Other {
		return
	}
	row.Network = cmp.Or(w.network, row.Network)
	if r.by != ByNetwork {
		row.addrs[prefixOf(w.addr, w.bits)] = true
		row.MAC, row.Hostname = cmp.Or(w.mac, row.MAC), cmp.Or(w.hostname, row.Hostname)
	}
}

// sorted returns the rows, those that moved most first, and other last.
func (r *rows) sorted() []Row {
	all := make([]Row, 0, len(r.of))
	for _, row := range r.of {
		for addr := range row.addrs {
			row.Addrs = append(row.Addrs, addr)
		}
		slices.SortFunc(row.Addrs, netip.Prefix.Compare)
		all = append(all, row.Row)
	}
	slices.SortFunc(all, func(a, b Row) int {
		if a.Other != b.Other {
			if a.Other {
				return 1
			}
			return -1
		}
		return cmp.Or(
			cmp.Compare(b.Receive+b.Transmit, a.Receive+a.Transmit), cmp.Compare(a.MAC, b.MAC), cmp.Compare(a.Network, b.Network),
			slices.CompareFunc(a.Addrs, b.Addrs, netip.Prefix.Compare))
	})
	return all
}
