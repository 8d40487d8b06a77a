package talkers

import (
	"math"
	"net/netip"
	"slices"
	"time"

	"promflow/telemetry"
)

// historyPoints is how many rates of an address are kept: a minute of them.
const historyPoints = int(time.Minute / Interval)

// samples is what is known of the last readings: totals of the last one, and what moved in the two intervals before.
type samples struct {
	taken     time.Time
	count     int              // of readings
	intervals [2]time.Duration // the last one, and that before

	all     talker   // all addresses together, expired ones, too
	talkers []talker // the first is ip="other", the others are in the table's order
	// columns has the rates of all talkers at the last readings, column%historyPoints the latest ones: one column is written at a
	// time, and rows are asked for seldom.
	columns [historyPoints][]float32

	reading    telemetry.Reading // the last one, without its sequence
	interfaces []Interface
}

// talker is an address, and what it moved.
type talker struct {
	addr    netip.Addr
	bits    int32
	entry   uint32
	present bool // it is on the page
	total   moved
	last    [2]moved // in the last interval, and in that before
}

// moved is bytes in both directions.
type moved struct{ receive, transmit int64 }

func (m moved) plus(o moved) moved { return moved{m.receive + o.receive, m.transmit + o.transmit} }

func (m moved) minus(o moved) moved { return moved{m.receive - o.receive, m.transmit - o.transmit} }

func (m moved) sum() int64 { return m.receive + m.transmit }

// next makes total the talker's, which grew by the difference.
func (k *talker) next(total, grew moved) { k.total, k.last = total, [2]moved{grew, k.last[0]} }

// take adds a reading.
func (s *samples) take(r telemetry.Reading, now time.Time) {
	s.intervals = [2]time.Duration{now.Sub(s.taken), s.intervals[0]}
	if s.count == 0 {
		s.intervals[0] = 0
	}
	totals := s.totals(r)
	all, known := moved{}, moved{} // what all addresses have moved, and by how much those grew that the table tells apart
	for i := 1; i < len(totals); i++ {
		all = all.plus(totals[i])
		k := &s.talkers[i]
		grew := totals[i].minus(k.total)
		k.next(totals[i], grew)
		known = known.plus(grew)
	}
	all = all.plus(totals[0])
	grew := all.minus(s.all.total)
	s.all.next(all, grew)
	// An address that made room for another has its total in that of the others, which grows by what moved long ago. What is left of
	// the sum, which no eviction changes, is what the others moved since the last reading.
	s.talkers[0].next(totals[0], grew.minus(known))
	if s.count == 0 { // what moved until now, moved at any time
		s.all.last = [2]moved{}
		for i := range s.talkers {
			s.talkers[i].last = [2]moved{}
		}
	}
	s.takeInterfaces(r, now.Sub(s.taken))
	s.taken = now
	s.keepRates()
	s.count++
	r.Hosts, r.Labels = nil, nil
	s.reading = r
}

// totals gives what each of the talkers has moved in all, and makes them those of the reading.
func (s *samples) totals(r telemetry.Reading) []moved {
	if len(s.talkers) == 0 {
		s.talkers = []talker{{}}
	}
	s.talkers[0].present = false
	totals := make([]moved, 1, max(int(r.Tracked)+1, len(s.talkers)))
	if r.Hosts == nil {
		return append(totals, make([]moved, len(s.talkers)-1)...)
	}
	var places map[netip.Addr]int // of addresses, if any has several totals
	for h := range r.Hosts {
		of := moved{h.ReceiveBytes, h.TransmitBytes}
		switch {
		case !h.Addr.IsValid():
			s.talkers[0].present = true
			totals[0] = totals[0].plus(of)
		case h.Part:
			if places == nil {
				places = s.places(len(totals))
			}
			at := places[h.Addr]
			totals[at] = totals[at].plus(of)
			s.talkers[at].present = s.talkers[at].present || !h.Expired
		default:
			s.occupy(len(totals), h)
			totals = append(totals, of)
		}
	}
	s.talkers = s.talkers[:len(totals)]
	return totals
}

// places tells where the first talkers are.
func (s *samples) places(n int) map[netip.Addr]int {
	places := make(map[netip.Addr]int, n)
	for i := 1; i < n; i++ {
		places[s.talkers[i].addr] = i
	}
	return places
}

// occupy gives a place to the address of a host, which it may have already.
func (s *samples) occupy(at int, h telemetry.Host) {
	if at == len(s.talkers) {
		s.talkers = append(s.talkers, talker{})
	}
	k := &s.talkers[at]
	if k.addr != h.Addr || k.entry != h.Entry {
		*k = talker{addr: h.Addr, bits: int32(h.Bits), entry: h.Entry}
		for _, column := range s.columns {
			if at < len(column) {
				column[at] = 0
			}
		}
	}
	k.present = !h.Expired
}

// takeInterfaces takes the state of the interfaces, some time after the last one.
func (s *samples) takeInterfaces(r telemetry.Reading, after time.Duration) {
	before := map[string]int64{}
	for _, i := range s.interfaces {
		before[i.Name] = i.Dropped
	}
	interfaces := make([]Interface, 0, len(r.Interfaces)) // others hold the last one
	for _, of := range r.Interfaces {
		i := Interface{Name: of.Label(), Backend: of.Backend, Up: of.Up, Dropped: of.Dropped}
		if dropped, known := before[i.Name]; known && s.count > 0 {
			i.DroppedRate = math.Round(float64(i.Dropped-dropped)/after.Seconds()*10) / 10
		}
		interfaces = append(interfaces, i)
	}
	s.interfaces = interfaces
}

// keepRates makes the talkers' rates part of their history.
func (s *samples) keepRates() {
	column := &s.columns[s.count%historyPoints]
	*column = slices.Grow((*column)[:0], len(s.talkers))[:len(s.talkers)]
	window := s.window().Seconds()
	for i := range s.talkers {
		(*column)[i] = 0
		if window > 0 {
			(*column)[i] = float32(float64(s.talkers[i].window().sum()) / window)
		}
	}
}

// window is how long rates are means over.
func (s *samples) window() time.Duration { return s.intervals[0] + s.intervals[1] }

// window is what moved in that time.
func (k *talker) window() moved { return k.last[0].plus(k.last[1]) }

// traffic gives rates and totals.
func (s *samples) traffic(k *talker) Traffic {
	t := Traffic{ReceiveTotal: k.total.receive, TransmitTotal: k.total.transmit}
	if window := s.window().Seconds(); window > 0 {
		m := k.window()
		t.ReceiveRate = int64(math.Round(float64(m.receive) / window))
		t.TransmitRate = int64(math.Round(float64(m.transmit) / window))
	}
	return t
}

// historyOf gives the rates that a talker had, as far back as there were readings.
func (s *samples) historyOf(at int) []int64 {
	n := min(s.count-1, historyPoints) // the first reading has no rates
	rates := make([]int64, 0, max(n, 0))
	for i := s.count - n; i < s.count; i++ {
		rate := int64(0)
		if column := s.columns[i%historyPoints]; at < len(column) {
			rate = int64(math.Round(float64(column[at])))
		}
		rates = append(rates, rate)
	}
	return rates
}
