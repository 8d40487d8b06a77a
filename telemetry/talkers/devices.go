package talkers

import (
	"net/netip"
	"strings"

	"promflow/telemetry"
)

const (
	// MaxIPs is how many addresses of a device are listed at most.
	MaxIPs = 32
	// macsAtOnce is how many addresses are asked for their MACs again with each reading. Nearly all have the same as before, and to ask all of
	// a large table would take longer than the reading. Of 65,536 addresses one that gets another MAC has it after 32 s at most.
	macsAtOnce = 4096
	// devicesKept is how many readings devices are kept for after the last question.
	devicesKept = 5
)

// devices are MACs with all their addresses. What has no MAC stands by itself. While somebody asks for devices, they are kept from reading to
// reading.
type devices struct {
	kept int // for so many readings, unless somebody asks again

	macs    []string         // by number; 0 is that of an address that was not asked yet, 1 that of one that has none
	numbers map[string]int32 // of macs
	asked   int              // the index of the address that was asked last

	places []int32  // the index of a MAC's device by number, plus 1; 0 if it has none on the page
	rows   []talker // what each device moved; its address is the one that moved most
	first  []int32  // the index of that address
	next   []int32  // the index of another address of the same device; 0 after the last one
}

// byDevice returns the devices of the last reading.
func (s *samples) byDevice() *devices {
	if s.devices == nil {
		s.devices = &devices{}
		s.devices.forget(s.talkers)
		s.group()
	}
	s.devices.kept = devicesKept
	return s.devices
}

// takeDevices brings devices up to date after a reading, unless nobody has asked for them for a while.
func (s *samples) takeDevices() {
	d := s.devices
	if d == nil || d.kept == 0 {
		s.devices = nil
		return
	}
	d.kept--
	for range min(macsAtOnce, len(s.talkers)) {
		d.asked = (d.asked + 1) % len(s.talkers)
		s.talkers[d.asked].mac = 0
	}
	if len(d.macs) > 2*len(s.talkers)+2 { // most are of the past
		d.forget(s.talkers)
	}
	s.group()
}

// forget has each address be asked for its MAC.
func (d *devices) forget(talkers []talker) {
	d.macs, d.numbers = []string{"", ""}, map[string]int32{"": 1}
	for i := range talkers {
		talkers[i].mac = 0
	}
}

// number returns the number of a MAC.
func (d *devices) number(mac string) int32 {
	n := d.numbers[mac]
	if n == 0 {
		n = int32(len(d.macs))
		d.macs = append(d.macs, mac)
		d.numbers[mac] = n
	}
	return n
}

// group makes the devices of the addresses on the page.
func (s *samples) group() {
	d, talkers := s.devices, s.talkers
	for i := range talkers {
		if k := &talkers[i]; k.present && k.mac == 0 {
			k.mac = d.number(s.info(k).MAC)
		}
	}
	d.places = append(d.places[:0], make([]int32, len(d.macs))...)
	d.next = append(d.next[:0], make([]int32, len(talkers))...)
	d.rows, d.first = d.rows[:0], d.first[:0]
	for i := range talkers {
		k := &talkers[i]
		if !k.present {
			continue
		}
		if k.mac > 1 {
			if at := d.places[k.mac]; at > 0 {
				d.add(talkers, int(at-1), i)
				continue
			}
			d.places[k.mac] = int32(len(d.rows) + 1)
		}
		d.rows, d.first = append(d.rows, *k), append(d.first, int32(i))
	}
}

// add adds an address to a device.
func (d *devices) add(talkers []talker, device, i int) {
	row, first := &d.rows[device], d.first[device]
	k, most := &talkers[i], &talkers[first]
	if sum, best := k.total.sum(), most.total.sum(); sum > best || sum == best && k.addr.Less(most.addr) {
		row.addr, d.first[device], d.next[i] = k.addr, int32(i), first
	} else {
		d.next[i], d.next[first] = d.next[first], int32(i)
	}
	row.total = row.total.plus(k.total)
	for i := range row.last {
		row.last[i] = row.last[i].plus(k.last[i])
	}
}

// view is what a query chooses from: addresses, or devices.
type view struct {
	*samples
	rows []talker
	of   *devices // nil if rows are addresses
}

func (s *samples) view(q Query) view {
	if q.By == ByDevice && s.reading.Info != nil {
		d := s.byDevice()
		return view{s, d.rows, d}
	}
	return view{s, s.talkers, nil}
}

// addresses returns the indexes of the addresses of a row.
func (v view) addresses(at int) []int {
	if v.of == nil {
		return []int{at}
	}
	all := []int{int(v.of.first[at])}
	for i := v.of.next[all[0]]; i > 0; i = v.of.next[i] {
		all = append(all, int(i))
	}
	return all
}

// listed returns those of the addresses of a row that moved most, as many as are listed, the first one first. It overwrites all.
func (v view) listed(all []int) []int {
	if len(all) == 1 {
		return all
	}
	return v.samples.view(Query{}).page(all, Query{Sort: "total", Limit: MaxIPs})
}

// names returns the hostname and the MAC of a row. If addresses of a device have several names, it has that of the address that moved most,
// of those that are listed.
func (v view) names(at int) telemetry.HostInfo {
	names := v.info(&v.rows[at]) // of the address that moved most of all
	if v.of == nil {
		return names
	}
	names.MAC = v.of.macs[v.rows[at].mac]
	if names.Hostname == "" && v.of.next[v.of.first[at]] > 0 {
		for _, i := range v.listed(v.addresses(at)) {
			if names.Hostname = v.info(&v.talkers[i]).Hostname; names.Hostname != "" {
				break
			}
		}
	}
	return names
}

// matches reports whether a row has an address that matches a filter: it is in the prefix, or its IP, hostname or MAC contains the text, which
// is in lower case.
func (v view) matches(at int, filter string, prefix netip.Prefix) bool {
	if v.of == nil {
		k := &v.rows[at]
		return prefix.Contains(k.addr) || v.contains(k, filter)
	}
	for i := v.of.first[at]; ; {
		if k := &v.talkers[i]; prefix.Contains(k.addr) || v.contains(k, filter) {
			return true
		}
		if i = v.of.next[i]; i == 0 {
			return strings.Contains(v.of.macs[v.rows[at].mac], filter)
		}
	}
}
