package history

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"go.etcd.io/bbolt"
)

// errNoFile is the error of a query while there is no file.
var errNoFile = errors.New("history cannot be read now")

// view is what is known of a span at one instant: the file, and the periods that are in memory.
type view struct {
	h        *History
	tx       *bbolt.Tx
	now      time.Time
	state    state
	since    time.Time // when the history begins
	from, to time.Time // of whole periods of this resolution:
	read     Resolution
	steps    Resolution // of the answer; not finer
	memory   []moved    // what is not in the file
	tallies  map[uint32]*tally
}

// moved is what was moved in a period.
type moved struct {
	at int64 // the middle of the period
	of *tally
	volume
}

// tally is what a who moved in a span.
type tally struct {
	who    *who   // nil: other
	number uint32 // of the who in the file; 0 if it has none
	last   int64  // the middle of the last period in which it moved something
	asked  bool   // the query is about it
	volume
}

// tally returns that of a number in the file, or of other.
func (v *view) tally(number uint32) *tally {
	t := v.tallies[number]
	if t == nil {
		t = &tally{number: number}
		v.tallies[number] = t
	}
	return t
}

// view reads the table, and begins to read the file.
func (h *History) view(q Query) (*view, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || h.db == nil {
		return nil, errNoFile
	}
	v := &view{h: h, now: h.config.Now(), tallies: map[uint32]*tally{}}
	if h.config.Table != nil {
		h.observe(v.now)
	}
	v.state = h.state
	err := explain(guard(func() (err error) {
		v.tx, err = h.db.Begin(false)
		return err
	}))
	if err == nil {
		if err = v.span(q); err != nil {
			v.close()
		}
	}
	if err != nil {
		return nil, h.isDamaged(err)
	}
	v.remember()
	return v, nil
}

// isDamaged has the next write put the file aside, if that is the error of reading it, and returns the error.
func (h *History) isDamaged(err error) error {
	if errors.Is(err, errDamaged) {
		h.damaged.Store(true)
	}
	return err
}

// span sets when the span of a query begins and ends, and of which periods it is.
func (v *view) span(q Query) (err error) {
	if v.since, err = v.begin(); err != nil {
		return err
	}
	v.from, v.to = q.From, q.To
	if v.from.IsZero() {
		v.from = v.since
	}
	if v.from.After(v.to) {
		v.from = v.to
	}
	if v.steps = q.Steps; v.steps == Fitting {
		v.steps = fitting(v.to.Sub(v.from))
	}
	if v.read, err = v.resolution(); err != nil {
		return err
	}
	v.steps = max(v.steps, v.read)
	c := v.h.calendar
	v.from = c.Start(v.read, v.from)
	if start := c.Start(v.read, v.to); !start.Equal(v.to) {
		v.to = c.End(v.read, v.to)
	}
	return nil
}

// resolution returns that of the periods to read: the coarsest one, not coarser than that of the steps, whose periods the span consists of.
// Else it is the finest one that still has all periods from the start on, or the one that has the earliest.
func (v *view) resolution() (Resolution, error) {
	for r := v.steps; r > FiveMinutes; r-- {
		if fits, err := v.fits(r); fits || err != nil {
			return r, err
		}
	}
	best := FiveMinutes
	for r := range resolutions {
		if v.state.dropped[r] <= v.from.Unix() {
			return r, nil
		}
		if v.state.dropped[r] < v.state.dropped[best] {
			best = r
		}
	}
	return best, nil
}

// fits tells whether a span consists of periods of a resolution: all of them are kept, and were kept by the calendar that holds now, not by
// another zone, or with months that started on another day.
func (v *view) fits(r Resolution) (fits bool, err error) {
	c := v.h.calendar
	if !c.Start(r, v.from).Equal(v.from) || !v.to.After(v.now) && !c.Start(r, v.to).Equal(v.to) || v.state.dropped[r] > v.from.Unix() {
		return false, nil
	}
	from, to := v.from.Unix(), v.to.Unix()
	isOf := func(start, end int64) bool { // the calendar, or the period is outside the span
		at := time.Unix(start, 0)
		return end <= from || start >= to || c.Start(r, at).Unix() == start && c.End(r, at).Unix() == end
	}
	if open := &v.state.open[r]; open.number != 0 && !isOf(open.start, open.end) {
		return false, nil
	}
	for i := range v.h.late {
		if l := &v.h.late[i]; l.resolution == r && !isOf(l.start, l.end) {
			return false, nil
		}
	}
	fits = true
	err = v.periods(r, c.Back(r, v.from, 2).Unix(), to, func(start int64, key, sealed []byte) error {
		length, err := readLength(key, sealed)
		fits = fits && isOf(start, start+length)
		return err
	})
	return fits, err
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
	for i := range v.h.late {
		if l := &v.h.late[i]; l.resolution == r {
			start = min(start, l.start)
		}
	}
	return time.Unix(start, 0).In(v.h.calendar.Zone), err
}

// remember keeps what is in memory of the periods to read. The caller holds the lock.
func (v *view) remember() {
	h := v.h
	add := func(at int64, of *subject, more volume) {
		if more.isZero() {
			return
		}
		var t *tally
		if of == nil {
			t = v.tally(0)
		} else {
			t = &tally{who: h.whoOf(of)}
		}
		v.memory = append(v.memory, moved{at, t, more})
	}
	for i := range h.late {
		if l := &h.late[i]; l.resolution == v.read && v.has(l.middle()) {
			for _, of := range l.items {
				add(l.middle(), of.subject, of.volume)
			}
			add(l.middle(), nil, l.other)
		}
	}
	if open := &h.state.open[v.read]; v.has(open.middle()) {
		for i := range h.hosts {
			add(open.middle(), &h.hosts[i].subject, h.hosts[i].movedIn(v.read, open))
		}
		add(open.middle(), nil, h.other.movedIn(v.read, open))
	}
}

// whoOf returns what a subject is known as now.
func (h *History) whoOf(of *subject) *who {
	info := of.info()
	if h.config.Info != nil {
		info, _ = info.later(h.config.Info(of.addr))
	}
	return &who{of.addr, of.bits, info}
}

func (v *view) close() { guard(v.tx.Rollback) }

// stepsOf returns the steps of the span that have begun.
func (v *view) stepsOf() (steps []Step) {
	c := v.h.calendar
	for start := c.Start(v.steps, v.from); start.Before(v.to) && (len(steps) == 0 || !start.After(v.now)); {
		end := c.End(v.steps, start)
		step := Step{Start: start, End: end}
		if start.Before(v.from) {
			step.Start = v.from
		}
		if end.After(v.to) {
			step.End = v.to
		}
		steps = append(steps, step)
		start = end
	}
	return steps
}

// periods calls do with the periods of the file that start from an instant on and before another one.
func (v *view) periods(r Resolution, from, to int64, do func(start int64, key, sealed []byte) error) error {
	return v.h.isDamaged(explain(guard(func() error {
		b := v.tx.Bucket(r.bucket())
		if b == nil {
			return nil
		}
		until, c := startKey(to), b.Cursor()
		for key, sealed := c.Seek(startKey(from)); key != nil && bytes.Compare(key, until) < 0; key, sealed = c.Next() {
			start, err := parseStart(key)
			if err == nil {
				err = do(start, key, sealed)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})))
}

// has tells whether the period with that middle is part of the span. One of another calendar may be in two spans: it is part of one.
func (v *view) has(middle int64) bool { return middle >= v.from.Unix() && middle < v.to.Unix() }

// each calls do with what was moved in the periods of the span, and their middles.
func (v *view) each(do func(middle int64, of *tally, more volume)) error {
	err := v.periods(v.read, v.h.calendar.Back(v.read, v.from, 2).Unix(), v.to.Unix(), func(start int64, key, sealed []byte) error {
		length, err := readLength(key, sealed)
		middle := start + length/2
		if err != nil || !v.has(middle) {
			return err
		}
		in, err := readVolumes(key, sealed)
		if err != nil {
			return err
		}
		for _, e := range in.of {
			do(middle, v.tally(e.who), e.volume)
		}
		if !in.other.isZero() {
			do(middle, v.tally(0), in.other)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, m := range v.memory {
		do(m.at, m.of, m.volume)
	}
	return nil
}

// resolve finds out who tallies are of, and returns them in the order of time: those whose last period is the same in the order in which they
// became known.
func (v *view) resolve() ([]*tally, error) {
	all := make([]*tally, 0, len(v.tallies)+len(v.memory))
	err := v.h.isDamaged(explain(guard(func() (err error) {
		for number, t := range v.tallies {
			if number != 0 {
				if t.who, err = v.who(number); err != nil {
					return err
				}
			}
			all = append(all, t)
		}
		return nil
	})))
	for _, m := range v.memory {
		if m.of.who != nil {
			all = append(all, m.of)
		}
	}
	slices.SortStableFunc(all, func(a, b *tally) int {
		if c := cmp.Or(cmp.Compare(a.last, b.last), cmp.Compare(a.number-1, b.number-1)); c != 0 { // what is in memory is the latest
			return c
		}
		switch { // one is other
		case a.who == nil:
			return -1
		case b.who == nil:
			return 1
		}
		return a.who.addr.Compare(b.who.addr)
	})
	return all, err
}

// who returns what has a number in the file.
func (v *view) who(number uint32) (*who, error) {
	key := binary.BigEndian.AppendUint32(nil, number)
	value, err := unseal(key, v.tx.Bucket(whoBucket).Get(key))
	if err != nil {
		return nil, err
	}
	w, err := parseWho(value)
	if err != nil {
		return nil, err
	}
	return &w, nil
}
