package talkers

import (
	"math"
	"net/netip"
	"time"

	"promflow/telemetry"
)

// historyPoints is how many rates of an address are kept: those of a minute.
const historyPoints = int(time.Minute / Interval)

// samples has the totals of the last reading, what moved in the two intervals before it, and the rates of a minute.
type samples struct {
	taken     time.Time
	count     int              // of readings
	intervals [2]time.Duration // the last one first

	all     talker   // all addresses together, also expired ones
	talkers []talker // the first one is ip="other", the rest are in the table's order
	rates   []rates  // of talkers
	devices *devices // nil unless somebody asks for them

	reading    telemetry.Reading // the last one, without its hosts
	interfaces []Interface
}

// talker is an address and what it moved.
type talker struct {
	addr    netip.Addr
	bits    int32
	entry   uint32
	present bool  // on the page
	mac     int32 // its number in devices
	total   moved
	last    [2]moved // in the intervals
}

// rates are those of a talker at the last readings. That of reading n is at n%historyPoints.
type rates [historyPoints]float32

// moved is bytes in both directions.
type moved struct{ receive, transmit int64 }

func (m moved) plus(o moved) moved { return moved{m.receive + o.receive, m.transmit + o.transmit} }

func (m moved) minus(o moved) moved { return moved{m.receive - o.receive, m.transmit - o.transmit} }

func (m moved) sum() int64 { return m.receive + m.transmit }

// next sets the total of a talker, which has grown since the last reading.
func (s *samples) next(k *talker, total, grown moved) {
	if s.count == 0 { // nobody knows when that moved
		grown = moved{}
	}
	k.total, k.last = total, [2]moved{grown, k.last[0]}
}

// rate returns the current rate of a talker, in bytes a second.
func (s *samples) rate(k *talker) float32 {
	window := s.window().Seconds()
	if window <= 0 {
		return 0
	}
	return float32(float64(k.recent().sum()) / window)
}

// take adds a reading.
func (s *samples) take(r telemetry.Reading, now time.Time) {
	interval := time.Duration(0)
	if s.count > 0 {
		interval = now.Sub(s.taken)
	}
	s.taken, s.intervals = now, [2]time.Duration{interval, s.intervals[0]}
	totals := s.totals(r)
	all, addressesGrown := totals[0], moved{}
	for i := 1; i < len(totals); i++ {
		all = all.plus(totals[i])
		k := &s.talkers[i]
		grown := totals[i].minus(k.total)
		s.next(k, totals[i], grown)
		s.rates[i][s.count%historyPoints] = s.rate(k)
		addressesGrown = addressesGrown.plus(grown)
	}
	allGrown := all.minus(s.all.total)
	s.next(&s.all, all, allGrown)
	// The total of "other" also grows when an address is evicted, by what that has ever moved. The total of all does not, so its growth
	// less that of the addresses is what moved now.
	s.next(&s.talkers[0], totals[0], allGrown.minus(addressesGrown))
	s.rates[0][s.count%historyPoints] = s.rate(&s.talkers[0])
	s.takeInterfaces(r)
	s.count++
	r.Hosts, r.Labels = nil, nil
	s.reading = r
	s.takeDevices()
}

// totals makes s.talkers those of a reading, and returns their totals.
func (s *samples) totals(r telemetry.Reading) []moved {
	if len(s.talkers) == 0 {
		s.talkers, s.rates = []talker{{}}, []rates{{}}
	}
	s.talkers[0].present = false
	totals := make([]moved, 1, max(int(r.Tracked)+1, len(s.talkers)))
	var places map[netip.Addr]int // made when the first part comes, after all addresses
	for h := range r.Hosts {
		of := moved{h.ReceiveBytes, h.TransmitBytes}
		switch {
		case !h.Addr.IsValid():
			s.talkers[0].present = true
			totals[0] = totals[0].plus(of)
		case h.Part:
			if places == nil {
				places = make(map[netip.Addr]int, len(totals))
				for i := 1; i < len(totals); i++ {
					places[s.talkers[i].addr] = i
				}
			}
			at := places[h.Addr]
			totals[at] = totals[at].plus(of)
			s.talkers[at].present = s.talkers[at].present || !h.Expired
		default:
			s.occupy(len(totals), h)
			totals = append(totals, of)
		}
	}
	s.talkers, s.rates = s.talkers[:len(totals)], s.rates[:len(totals)]
	return totals
}

// occupy gives a place to an address, which may have it already.
func (s *samples) occupy(at int, h telemetry.Host) {
	if at == len(s.talkers) {
		s.talkers, s.rates = append(s.talkers, talker{}), append(s.rates, rates{})
	}
	k := &s.talkers[at]
	if k.addr != h.Addr || k.entry != h.Entry {
		*k, s.rates[at] = talker{addr: h.Addr, bits: int32(h.Bits), entry: h.Entry}, rates{}
	}
	k.present = !h.Expired
}

func (s *samples) takeInterfaces(r telemetry.Reading) {
	before := map[string]int64{}
	for _, i := range s.interfaces {
		before[i.Name] = i.Dropped
	}
	s.interfaces = make([]Interface, 0, len(r.Interfaces)) // a new one, as reports have the last one
	for _, of := range r.Interfaces {
		i := Interface{Name: of.Label(), Backend: of.Backend, Up: of.Up, Dropped: of.Dropped}
		if dropped, known := before[i.Name]; known {
			i.DroppedRate = math.Round(float64(i.Dropped-dropped)/s.intervals[0].Seconds()*10) / 10
		}
		s.interfaces = append(s.interfaces, i)
	}
}

// window is the time over which rates are means.
func (s *samples) window() time.Duration { return s.intervals[0] + s.intervals[1] }

// recent is what moved in the window.
func (k *talker) recent() moved { return k.last[0].plus(k.last[1]) }

// traffic returns rates and totals.
func (s *samples) traffic(k *talker) Traffic {
	t := Traffic{ReceiveTotal: k.total.receive, TransmitTotal: k.total.transmit}
	if window := s.window().Seconds(); window > 0 {
		m := k.recent()
		t.ReceiveRate = int64(math.Round(float64(m.receive) / window))
		t.TransmitRate = int64(math.Round(float64(m.transmit) / window))
	}
	return t
}

// historyOf returns the rates of some talkers together, as far back as there were readings.
func (s *samples) historyOf(some ...int) []int64 {
	var sums [historyPoints]float64
	for _, at := range some {
		for i, rate := range s.rates[at] {
			sums[i] += float64(rate)
		}
	}
	history := []int64{}
	for i := max(1, s.count-historyPoints); i < s.count; i++ { // the first reading has no rates
		history = append(history, int64(math.Round(sums[i%historyPoints])))
	}
	return history
}
