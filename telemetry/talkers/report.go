package talkers

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"promflow/telemetry"
)

// Report has the rates and totals of addresses, or of devices. Bytes are network-layer bytes as on the wire. A packet between two monitored addresses
// counts as transmitted by one and as received by the other.
type Report struct {
	// Time is the time of the reading.
	Time time.Time `json:"time"`
	// WindowSeconds is the time over which rates are means; 0 in the first reading, which has no rates.
	WindowSeconds float64 `json:"window_seconds"`
	// IntervalSeconds is the time between readings.
	IntervalSeconds float64 `json:"interval_seconds"`

	// Traffic is the traffic of all addresses together, whether they match or not.
	Traffic
	// History has the rates of the last five minutes, while somebody asked.
	History History `json:"history"`

	// Addresses is the number of addresses on the page, AddressesLimit the table's room for addresses.
	Addresses      int64 `json:"addresses"`
	AddressesLimit int64 `json:"addresses_limit"`
	// Matching is how many addresses, or devices, match the filter. Talkers is a page of these.
	Matching int `json:"matching"`
	// Names reports whether addresses have names (--host-info).
	Names      bool        `json:"names"`
	Interfaces []Interface `json:"interfaces"`
	Monitored  []Subnet    `json:"monitored_subnets"`
	Talkers    []Talker    `json:"talkers"`
}

// Traffic is rates, in bytes a second, and totals, in bytes.
type Traffic struct {
	ReceiveRate   int64 `json:"receive_bytes_per_second"`
	TransmitRate  int64 `json:"transmit_bytes_per_second"`
	ReceiveTotal  int64 `json:"receive_bytes"`
	TransmitTotal int64 `json:"transmit_bytes"`
}

// Talker is an address, a prefix, or "other"; or a device, which has the sums of its addresses.
type Talker struct {
	// ID tells a talker from others: its address or, of a device that has one, the MAC.
	ID string `json:"id"`
	// IP is the address; of a device that which moved most in total, both directions together.
	IP string `json:"ip"`
	// IPs has the addresses, also IP: of a device those that moved most, the first one first.
	IPs      IPs    `json:"ips"`
	Hostname string `json:"hostname"`
	MAC      string `json:"mac"`
	Traffic
	// Share is the share in the traffic of all addresses, both directions together, from 0 to 1.
	Share float64 `json:"share"`
	// History has the rates at the last readings, both directions together, the latest one last.
	History []int64 `json:"history"`
}

// IPs are some addresses of a talker, at most 32.
type IPs []string

// UnmarshalJSON implements [json.Unmarshaler].
func (i *IPs) UnmarshalJSON(text []byte) (err error) {
	if *i, err = DecodeList[string](text, MaxIPs); err != nil {
		return fmt.Errorf("ips: %w", err)
	}
	return nil
}

// Interface is the state of the capture on an interface.
type Interface struct {
	Name    string `json:"name"`
	Backend string `json:"backend"`
	Up      bool   `json:"up"`
	// Dropped is the number of packets that the kernel dropped before they were counted, DroppedRate that of each second.
	Dropped     int64   `json:"dropped_packets"`
	DroppedRate float64 `json:"dropped_packets_per_second"`
}

// Subnet is a monitored subnet. Its network is its name, or itself if it has none.
type Subnet struct {
	Subnet  string `json:"subnet"`
	Network string `json:"network"`
}

// Monitored returns the monitored subnets of a reading.
func Monitored(r telemetry.Reading) []Subnet {
	all := []Subnet{} // an empty list is [] in JSON
	for _, in := range r.Subnets {
		all = append(all, Subnet{in.Prefix, strings.ToValidUTF8(in.Network, "\uFFFD")})
	}
	return all
}

// History is the rates at some times, in bytes a second.
type History struct {
	Time     []float64 `json:"time"` // in seconds since 1970
	Receive  []int64   `json:"receive_bytes_per_second"`
	Transmit []int64   `json:"transmit_bytes_per_second"`
}

// historySpan is how far back History goes.
const historySpan = 5 * time.Minute

// add removes old rates, and adds those of the last sample if it has any. If the clock was set back, rates with a time in the future are
// removed too, so that times are sorted. Reports share the slices, so these are copied. They are not nil, which is null in JSON.
func (h *History) add(s *samples) {
	now := float64(s.taken.UnixMilli()) / 1000 // as JavaScript's charts take it
	end, _ := slices.BinarySearch(h.Time, now)
	begin, _ := slices.BinarySearch(h.Time[:end], now-historySpan.Seconds())
	h.Time = append([]float64{}, h.Time[begin:end]...)
	h.Receive = append([]int64{}, h.Receive[begin:end]...)
	h.Transmit = append([]int64{}, h.Transmit[begin:end]...)
	if s.window() > 0 {
		rates := s.traffic(&s.all)
		h.Time = append(h.Time, now)
		h.Receive = append(h.Receive, rates.ReceiveRate)
		h.Transmit = append(h.Transmit, rates.TransmitRate)
	}
}
