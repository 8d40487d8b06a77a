package history

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"promflow/capture"
	"promflow/capture/labels"
)

// host is what is known of an address in the table. It is the same one as long as it has its entry. There may be a million.
type host struct {
	subject
	entry   uint32
	changed bool           // its record must be written
	stored  bool           // the file has a record of it
	sum     capture.Totals // at the last reading, with series
	seen    int64
	began   [2]int64
	parts   []part

	moved [resolutions]volume
	in    [resolutions]uint32
}

// subject is what volumes are of.
type subject struct {
	addr   netip.Addr
	bits   int
	number uint32 // of the subject with what is known of it, in the file; 0 if it is to be searched
	known  *Info  // nil: nothing
}

// info returns what a subject was last known as.
func (s *subject) info() Info {
	if s.known == nil {
		return Info{}
	}
	return *s.known
}

func (s *subject) setInfo(i Info) {
	if i != s.info() {
		s.known, s.number = &i, 0
	}
}

// learn takes what is known of a host now, and returns it, unless it is another device.
func (h *History) learn(at *host) (now Info, same bool) {
	if h.config.Info == nil || !at.addr.IsValid() {
		return now, true
	}
	before := at.info()
	now = h.config.Info(at.addr)
	info, same := before.later(now)
	if info != before {
		at.setInfo(info)
		at.changed = true
	}
	return now, same
}

// attribute takes what is known of a host that moves something now. If it is another device than before, what it has moved in the open periods is
// that of the one before.
func (h *History) attribute(at *host) {
	now, same := h.learn(at)
	if same {
		return
	}
	for r := range resolutions {
		open := &h.state.open[r]
		if v := at.movedIn(r, open); !v.isZero() {
			h.handOver(r, &at.subject, v)
			at.moved[r] = volume{}
		}
	}
	now.Network = cmp.Or(now.Network, at.info().Network)
	at.setInfo(now)
}

// handOver has the next write add to the open period what a subject has moved in it.
func (h *History) handOver(r Resolution, of *subject, v volume) {
	open := h.state.open[r]
	i := slices.IndexFunc(h.late, func(l latePeriod) bool { return l.handedOver != nil && l.resolution == r && l.openPeriod == open })
	if i < 0 {
		i = len(h.late)
		h.late = append(h.late, latePeriod{resolution: r, openPeriod: open, handedOver: map[holder]int{}})
	}
	l := &h.late[i]
	at, again := l.handedOver[of.holder()]
	if !again {
		if len(l.items) >= 2*maxAddresses {
			l.other.add(fold(&l.items, item.moved))
			clear(l.handedOver)
			for i := range l.items {
				l.handedOver[l.items[i].holder()] = i
			}
		}
		at = len(l.items)
		l.handedOver[of.holder()] = at
		l.items = append(l.items, item{subject: new(subject)})
	}
	*l.items[at].subject = *of
	l.items[at].volume.add(v)
}

// holder is a device that had an address.
type holder struct {
	addr netip.Addr
	bits int
	mac  string
}

func (s *subject) holder() holder { return holder{s.addr, s.bits, s.info().MAC} }

// part is a series of a host.
type part struct {
	values labels.Values
	entry  uint32
	began  [2]int64
	capture.Totals
}

// own returns the totals of a host that no series has.
func (h *host) own() capture.Totals {
	own := h.sum
	for i := range h.parts {
		p := &h.parts[i].Totals
		own.Add(capture.Totals{ReceiveBytes: -p.ReceiveBytes, TransmitBytes: -p.TransmitBytes, ReceivePackets: -p.ReceivePackets, TransmitPackets: -p.TransmitPackets})
	}
	return own
}

// movedIn returns what a host has moved in an open period.
func (h *host) movedIn(r Resolution, open *openPeriod) volume {
	if h.in[r] != open.number {
		return volume{}
	}
	return h.moved[r]
}

// move adds to what a host has moved in an open period.
func (h *host) move(r Resolution, open *openPeriod, more volume) {
	h.moved[r] = h.movedIn(r, open)
	h.moved[r].add(more)
	h.in[r] = open.number
}

// clockSet is how far the clock may be from where it is expected before it counts as set.
const clockSet = time.Minute

// observe reads the table, and adds what has been moved to the periods that are open. The caller holds the lock.
func (h *History) observe(now time.Time) {
	if h.config.Read != nil {
		h.config.Read()
	}
	if now.Before(h.last) || now.Sub(h.last) > 2*h.config.Interval+clockSet {
		h.steady = now
	}
	before := h.last
	h.last = now
	h.openPeriods(now)
	s := h.config.Table.Snapshot()
	parts := partsOf(&s)
	h.hosts = slices.Grow(h.hosts, max(len(s.Hosts)-len(h.hosts), 0))
	var evicted capture.Totals // which the table has in other now, and had elsewhere
	var other capture.Totals
	for i := range s.Hosts {
		is := &s.Hosts[i]
		if !is.Addr.IsValid() {
			other = is.Totals
			continue
		}
		if i == len(h.hosts) {
			h.hosts = append(h.hosts, host{})
		}
		at := &h.hosts[i]
		if at.addr != is.Addr || at.entry != is.Entry {
			if at.addr.IsValid() {
				evicted.Add(at.sum)
				h.dissolve(at)
			}
			*at = host{subject: subject{addr: is.Addr, bits: h.bits(is.Addr)}, entry: is.Entry}
		}
		h.update(at, is.Totals, parts[i], before, now.Add(-s.Idle(is)))
	}
	h.updateOther(other, evicted, before, now)
}

// openPeriods opens the periods of the first reading.
func (h *History) openPeriods(now time.Time) {
	for r := range resolutions {
		if h.state.open[r].number == 0 {
			h.state.open[r] = h.periodOf(r, now, &h.state)
		}
	}
}

// periodOf opens a period.
func (h *History) periodOf(r Resolution, now time.Time, s *state) openPeriod {
	s.numbers++
	return openPeriod{h.calendar.Start(r, now).Unix(), h.calendar.End(r, now).Unix(), s.numbers}
}

// bits returns the length of the prefix that an address of the table stands for.
func (h *History) bits(addr netip.Addr) int {
	if g := h.config.Table.Grouping(); g != nil && addr.IsValid() {
		return g.Bits(addr)
	}
	return 0
}

// partsOf returns the series of each host that has some.
func partsOf(s *capture.Snapshot) map[int][]part {
	var parts map[int][]part
	for at, is := range s.Series() {
		if parts == nil {
			parts = map[int][]part{}
		}
		parts[at] = append(parts[at], part{values: is.Labels, entry: is.Entry, Totals: is.Totals})
	}
	return parts
}

// update sets a host to what the table has, and adds what it has moved to the open periods.
func (h *History) update(at *host, own capture.Totals, parts []part, before, seen time.Time) {
	sum := own
	for i := range parts {
		sum.Add(parts[i].Totals)
	}
	if sum == at.sum && own == at.own() && len(parts) == len(at.parts) && at.seen != 0 && at.hasBegun() {
		return
	}
	more := volume{sum.ReceiveBytes - at.sum.ReceiveBytes, sum.TransmitBytes - at.sum.TransmitBytes}
	if more != (volume{}) {
		h.attribute(at)
		for r := range resolutions {
			at.move(r, &h.state.open[r], more)
		}
	}
	for i := range parts {
		p := &parts[i]
		for j := range at.parts {
			if was := &at.parts[j]; was.values == p.values && was.entry == p.entry {
				p.began = was.began
				break
			}
		}
		h.begin(&p.began, Series{at.addr, p.values, p.entry}, p.Totals, before)
	}
	at.sum, at.parts, at.seen, at.changed = sum, parts, max(seen.Unix(), 1), true
	h.begin(&at.began, Series{at.addr, h.rest(), at.entry}, own, before)
}

// begin sets when totals began, if they have.
func (h *History) begin(began *[2]int64, s Series, totals capture.Totals, before time.Time) {
	if began[0] != 0 && began[1] != 0 {
		return
	}
	for i, n := range []int64{totals.ReceiveBytes, totals.TransmitBytes} {
		if n == 0 || began[i] != 0 {
			continue
		}
		if h.config.Began == nil {
			began[i] = before.UnixMilli()
		} else if at := h.config.Began(s)[i]; !at.IsZero() {
			began[i] = at.UnixMilli()
		} // else it is asked again
	}
}

// hasBegun tells whether it is known when all totals of a host began.
func (h *host) hasBegun() bool {
	known := func(began [2]int64, t *capture.Totals) bool {
		return (t.ReceiveBytes == 0 || began[0] != 0) && (t.TransmitBytes == 0 || began[1] != 0)
	}
	own := h.own()
	return known(h.began, &own) && !slices.ContainsFunc(h.parts, func(p part) bool { return !known(p.began, &p.Totals) })
}

// dissolve adds the volumes of a host that is no longer in the table to those of other. Its record goes.
func (h *History) dissolve(at *host) {
	for r := range resolutions {
		open := &h.state.open[r]
		h.other.move(r, open, at.movedIn(r, open))
	}
	if at.stored {
		h.gone = append(h.gone, addressKey(at.addr, at.bits))
	}
}

// updateOther sets other to what the table has. evicted is what was known of hosts that are part of it now: that was moved before.
func (h *History) updateOther(now, evicted capture.Totals, before, seen time.Time) {
	known := &h.other
	known.sum.Add(evicted)
	if evicted != (capture.Totals{}) {
		known.changed = true
	}
	if now != known.sum {
		h.update(known, now, nil, before, seen)
	}
}

// saved is a record with its address.
type saved struct {
	addr netip.Addr
	bits int
	record
}

// restore fills the table from the records of the file, and takes what the table has then as known.
func (h *History) restore(records []saved) {
	h.loaded = h.db != nil
	now := h.config.Now()
	all := make([]capture.Saved, 0, len(records))
	// The table has room for the first ones: these are those that have moved something last.
	slices.SortStableFunc(records, func(a, b saved) int { return cmp.Compare(b.seen, a.seen) })
	after := h.config.Table.ExpireAfter()
	for i := range records {
		r := &records[i]
		asSaved := time.Duration(max(h.state.saved-r.seen, 0)) * time.Second
		away := time.Duration(max(now.Unix()-h.state.saved, 0)) * time.Second
		s := capture.Saved{
			Addr: r.addr, Bits: r.bits, Totals: r.own, Idle: min(asSaved, maxAway) + min(away, maxAway),
			Expired: after > 0 && asSaved >= after,
		}
		if !r.addr.IsValid() {
			s.Idle, s.Expired = 0, false
		}
		all = append(all, s)
		for j := range r.series {
			s.Labels, s.Totals = r.series[j].labels, r.series[j].Totals
			if s.Labels == nil {
				s.Labels = []labels.Text{}
			}
			all = append(all, s)
		}
	}
	s := h.config.Table.Restore(all)
	h.adopt(&s, records, now)
}

// maxAway keeps sums of durations from overflowing.
const maxAway = 50 * 365 * day

// adopt takes what the table has after it was restored as known. Volumes of the open periods stay with addresses that are still there, or
// are part of other's.
func (h *History) adopt(s *capture.Snapshot, records []saved, now time.Time) {
	known := make(map[netip.Prefix]*saved, len(records))
	for i := range records {
		known[prefixOf(records[i].addr, records[i].bits)] = &records[i]
	}
	h.openPeriods(now)
	h.hosts, h.other = make([]host, 0, len(s.Hosts)), host{}
	parts := partsOf(s)
	rest := h.rest()
	for i := range s.Hosts {
		is := &s.Hosts[i]
		at := host{subject: subject{addr: is.Addr, bits: h.bits(is.Addr)}, entry: is.Entry, sum: is.Totals, parts: parts[i], seen: max(now.Add(-s.Idle(is)).Unix(), 1)}
		for j := range at.parts {
			at.sum.Add(at.parts[j].Totals)
		}
		key := prefixOf(at.addr, at.bits)
		if r := known[key]; r != nil {
			at.moved, at.in, at.began = r.moved, r.in, r.began
			at.seen, at.stored = r.seen, true
			at.setInfo(r.Info)
			if is.Totals != r.own { // it has what its series had, or an address that is the same now
				at.began = r.earliest()
			}
			at.changed = r.own != is.Totals || len(r.series) != len(at.parts) || r.sum() != at.sum
			h.adoptSeries(&at, r)
			delete(known, key)
		} else {
			at.changed = true
		}
		h.begin(&at.began, Series{at.addr, rest, at.entry}, is.Totals, now)
		for j := range at.parts {
			p := &at.parts[j]
			h.begin(&p.began, Series{at.addr, p.values, p.entry}, p.Totals, now)
		}
		if at.addr.IsValid() {
			h.hosts = append(h.hosts, at)
		} else {
			h.other = at
		}
	}
	if len(known) > 0 {
		h.addUp(known)
	}
	h.restored = h.allRestored()
}

// addUp has what was known of addresses that are not in the table be part of other, or of their prefix.
func (h *History) addUp(known map[netip.Prefix]*saved) {
	at := make(map[netip.Prefix]*host, len(h.hosts))
	for i := range h.hosts {
		at[prefixOf(h.hosts[i].addr, h.hosts[i].bits)] = &h.hosts[i]
	}
	for _, r := range known {
		gone := host{subject: subject{addr: r.addr, bits: r.bits}, moved: r.moved, in: r.in, stored: true}
		h.dissolve(&gone)
		h.other.changed = true
		to := &h.other
		if bits := h.bits(r.addr); bits > 0 && (r.bits == 0 || r.bits > bits) {
			if prefix, err := r.addr.Prefix(bits); err == nil && at[prefix] != nil {
				to = at[prefix] // its prefix has its totals
			}
		}
		to.began = earlier(to.began, r.earliest())
		to.changed = true
	}
}

// allRestored returns all totals that the table has, in the order of their series.
func (h *History) allRestored() []restored {
	rest := h.rest()
	all := make([]restored, 0, len(h.hosts)+1)
	add := func(at *host) {
		all = append(all, restored{Series{at.addr, rest, at.entry}, at.own(), at.began})
		for i := range at.parts {
			p := &at.parts[i]
			all = append(all, restored{Series{at.addr, p.values, p.entry}, p.Totals, p.began})
		}
	}
	for i := range h.hosts {
		add(&h.hosts[i])
	}
	add(&h.other)
	slices.SortFunc(all, func(a, b restored) int { return a.compare(b.Series) })
	return all
}

// restored is totals of an earlier process.
type restored struct {
	Series
	capture.Totals
	began [2]int64 // in milliseconds since 1970; 0 if they have not
}

func (r restored) compare(of Series) int {
	return cmp.Or(r.Addr.Compare(of.Addr), cmp.Compare(r.Labels, of.Labels), cmp.Compare(r.Entry, of.Entry))
}

// rest returns the labels of an address's own totals.
func (h *History) rest() labels.Values {
	if g := h.config.Table.Grouping(); g != nil {
		return g.Rest()
	}
	return 0
}

// earlier returns when each of two totals began that are one now.
func earlier(a, b [2]int64) [2]int64 {
	for i, at := range b {
		if a[i] == 0 || at != 0 && at < a[i] {
			a[i] = at
		}
	}
	return a
}

// adoptSeries sets when the series of a host began that was restored.
func (h *History) adoptSeries(at *host, r *saved) {
	g := h.config.Table.Grouping()
	if g == nil {
		return
	}
	for i := range r.series {
		was := &r.series[i]
		values, ok := g.Values(was.labels)
		if !ok {
			continue
		}
		for j := range at.parts {
			if at.parts[j].values == values {
				at.parts[j].began = was.began
			}
		}
	}
}

// prefixOf returns an address and the length of the prefix that it stands for as a prefix, which can be compared.
func prefixOf(addr netip.Addr, bits int) netip.Prefix {
	if bits == 0 {
		bits = addr.BitLen()
	}
	return netip.PrefixFrom(addr, bits)
}

// take takes the records of a file as what is known, without a table.
func (h *History) take(records []saved) {
	for i := range records {
		r := &records[i]
		at := host{subject: subject{addr: r.addr, bits: r.bits}, sum: r.sum(), moved: r.moved, in: r.in, seen: r.seen, began: r.began}
		at.setInfo(r.Info)
		if at.addr.IsValid() {
			h.hosts = append(h.hosts, at)
		} else {
			h.other = at
		}
	}
}
