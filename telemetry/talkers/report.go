package talkers

import (
	"slices"
	"time"
)

// Report is what addresses move at one time. Bytes are network-layer bytes as on the wire. An address' "in" is what it received,
// and "out" what it transmitted: between two monitored addresses a packet is in both.
type Report struct {
	// Time is that of the reading.
	Time time.Time `json:"time"`
	// WindowSeconds is how long rates are means over; 0 in the first reading, which has none.
	WindowSeconds float64 `json:"window_seconds"`
	// IntervalSeconds is the time between two readings: nothing new is to be had before.
	IntervalSeconds float64 `json:"interval_seconds"`

	// Traffic is that of all addresses together, whether they match or not.
	Traffic
	// History is that of the last five minutes, as far as somebody asked meanwhile.
	History History `json:"history"`

	// Addresses is how many there are on the page, AddressesLimit for how many there is room.
	Addresses      int64 `json:"addresses"`
	AddressesLimit int64 `json:"addresses_limit"`
	// Matching is how many the filter lets through, of which Talkers are some.
	Matching int `json:"matching"`
	// Names tells whether addresses have names (--host-info).
	Names      bool        `json:"names"`
	Interfaces []Interface `json:"interfaces"`
	Talkers    []Talker    `json:"talkers"`
}

// Traffic is rates, in bytes a second, and totals, in bytes.
type Traffic struct {
	ReceiveRate   int64 `json:"receive_bytes_per_second"`
	TransmitRate  int64 `json:"transmit_bytes_per_second"`
	ReceiveTotal  int64 `json:"receive_bytes"`
	TransmitTotal int64 `json:"transmit_bytes"`
}

// Talker is an address, a prefix, or "other".
type Talker struct {
	IP       string `json:"ip"`
	Hostname string `json:"hostname"`
	MAC      string `json:"mac"`
	Traffic
	// Share is of what all addresses move, both directions together, from 0 to 1.
	Share float64 `json:"share"`
	// History is the rate of both directions together at the last readings, the latest one last.
	History []int64 `json:"history"`
}

// Interface is the state of the capture on an interface.
type Interface struct {
	Name    string `json:"name"`
	Backend string `json:"backend"`
	Up      bool   `json:"up"`
	// Dropped is how many packets the kernel dropped before they were counted, DroppedRate how many a second.
	Dropped     int64   `json:"dropped_packets"`
	DroppedRate float64 `json:"dropped_packets_per_second"`
}

// History is rates at several times, in bytes a second.
type History struct {
	Time     []float64 `json:"time"` // in seconds since 1970
	Receive  []int64   `json:"receive_bytes_per_second"`
	Transmit []int64   `json:"transmit_bytes_per_second"`
}

// historySpan is how far back History goes.
const historySpan = 5 * time.Minute

// add adds what the last of the samples has, if it has rates, and takes off what is old. Times rise: where the clock was set back,
// what seems to be yet to come is taken off, too, which otherwise would stay until it is.
func (h *History) add(s *samples) {
	now := seconds(s.taken)
	known, _ := slices.BinarySearch(h.Time, now)
	h.Time, h.Receive, h.Transmit = h.Time[:known], h.Receive[:known], h.Transmit[:known]
	old := 0
	for old < len(h.Time) && h.Time[old] < now-historySpan.Seconds() {
		old++
	}
	h.Time = slices.Delete(h.Time, 0, old)
	h.Receive = slices.Delete(h.Receive, 0, old)
	h.Transmit = slices.Delete(h.Transmit, 0, old)
	if s.window() > 0 {
		rates := s.traffic(&s.all)
		h.Time = append(h.Time, now)
		h.Receive = append(h.Receive, rates.ReceiveRate)
		h.Transmit = append(h.Transmit, rates.TransmitRate)
	}
}

func (h *History) clone() History {
	// Never nil: an empty list is [] in JSON, and not null.
	return History{
		Time:     append([]float64{}, h.Time...),
		Receive:  append([]int64{}, h.Receive...),
		Transmit: append([]int64{}, h.Transmit...),
	}
}

// seconds gives a time as JavaScript's charts take it, to the millisecond.
func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }
