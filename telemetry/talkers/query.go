package talkers

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"promflow/telemetry"
)

// Query says which talkers a report has, and in which order. The zero Query asks for those with the highest rates.
type Query struct {
	By      string // one of Groupings; "" is the first
	Sort    string // one of Sorts; "" is the first
	Reverse bool   // the lowest first, names from Z to A
	Filter  string // a part of IP, hostname or MAC, in either case, or a prefix
	Limit   int    // how many; 0 is DefaultLimit
	Offset  int    // how many to skip
}

// Limits for a query.
const (
	DefaultLimit = 50
	MaxLimit     = 1000
	maxFilter    = 253 // bytes
)

// What a talker can be: an address, or a device, which is a MAC with all its addresses. What has no MAC stands by itself.
const (
	ByIP     = "ip"
	ByDevice = "device"
)

// Groupings are all of these, the default first.
var Groupings = []string{ByIP, ByDevice}

// Sorts are the orders of talkers: the highest first, or by name.
var Sorts = []string{"rate", "receive_rate", "transmit_rate", "total", "receive_total", "transmit_total", "ip", "hostname"}

// ParseQuery reads the parameters by, sort, reverse, filter, limit and offset.
func ParseQuery(v url.Values) (q Query, err error) {
	var errs []error
	expect := func(name string, ok bool, what string) {
		if !ok {
			errs = append(errs, fmt.Errorf("%s=%q: expected %s", name, v.Get(name), what))
		}
	}
	number := func(name string, least, most int) int {
		n, err := strconv.Atoi(v.Get(name))
		ok := v.Get(name) == "" || err == nil && n >= least && n <= most
		expect(name, ok, fmt.Sprintf("a number from %d to %d", least, most))
		return n
	}
	q.By, q.Sort, q.Filter = v.Get("by"), v.Get("sort"), v.Get("filter")
	expect("by", q.By == "" || slices.Contains(Groupings, q.By), "one of "+strings.Join(Groupings, ", "))
	expect("sort", q.Sort == "" || slices.Contains(Sorts, q.Sort), "one of "+strings.Join(Sorts, ", "))
	expect("filter", len(q.Filter) <= maxFilter && utf8.ValidString(q.Filter), fmt.Sprintf("at most %d bytes of UTF-8", maxFilter))
	if text := v.Get("reverse"); text != "" {
		q.Reverse, err = strconv.ParseBool(text)
		expect("reverse", err == nil, "true or false")
	}
	q.Limit = number("limit", 1, MaxLimit)
	q.Offset = number("offset", 0, 1<<30)
	return q.canonical(), errors.Join(errs...)
}

// canonical returns the same query with defaults and within limits. Queries for the same are equal then.
func (q Query) canonical() Query {
	q.By, q.Sort = cmp.Or(q.By, ByIP), cmp.Or(q.Sort, Sorts[0])
	q.Filter = strings.ToLower(strings.TrimSpace(q.Filter))
	q.Limit = min(max(cmp.Or(q.Limit, DefaultLimit), 1), MaxLimit)
	q.Offset = max(q.Offset, 0)
	return q
}

// Values returns the parameters that ParseQuery reads.
func (q Query) Values() url.Values {
	q = q.canonical()
	return url.Values{
		"by":      {q.By},
		"sort":    {q.Sort},
		"reverse": {strconv.FormatBool(q.Reverse)},
		"filter":  {q.Filter},
		"limit":   {strconv.Itoa(q.Limit)},
		"offset":  {strconv.Itoa(q.Offset)},
	}
}

// report answers q.
func (s *samples) report(q Query) *Report {
	q = q.canonical()
	r := &Report{
		Time:            s.taken,
		WindowSeconds:   s.window().Seconds(),
		IntervalSeconds: Interval.Seconds(),
		Traffic:         s.traffic(&s.all),
		Addresses:       s.reading.Tracked,
		AddressesLimit:  s.reading.Limit,
		Names:           s.reading.Info != nil,
		Interfaces:      s.interfaces,
		Monitored:       Monitored(s.reading)[:min(len(s.reading.Subnets), maxSubnets)],
		Talkers:         []Talker{},
	}
	v := s.view(q)
	found := v.find(q.Filter)
	r.Matching = len(found)
	for _, at := range v.page(found, q) {
		r.Talkers = append(r.Talkers, v.talker(at))
	}
	return r
}

// talker returns what is reported of a row.
func (v view) talker(at int) Talker {
	k, names, all := &v.rows[at], v.names(at), v.addresses(at)
	t := Talker{IP: k.ip(), Hostname: names.Hostname, MAC: names.MAC, Traffic: v.traffic(k), History: v.historyOf(all...)}
	listed := v.listed(all)
	t.ID, t.IPs = t.IP, make(IPs, len(listed))
	if v.of != nil {
		t.ID = cmp.Or(names.MAC, t.IP)
	}
	t.IPs[0] = t.IP
	for i := 1; i < len(listed); i++ {
		t.IPs[i] = v.talkers[listed[i]].ip()
	}
	if all := v.all.recent().sum(); all > 0 {
		t.Share = float64(k.recent().sum()) / float64(all)
	}
	return t
}

func (k *talker) ip() string { return telemetry.Host{Addr: k.addr, Bits: int(k.bits)}.IP() }

// info returns the names of a talker. Only addresses have names.
func (s *samples) info(k *talker) telemetry.HostInfo {
	if s.reading.Info == nil || !k.addr.IsValid() || k.bits > 0 {
		return telemetry.HostInfo{}
	}
	return s.reading.Info(k.addr)
}

// find returns the indexes of the rows that match a filter.
func (v view) find(filter string) []int {
	found := make([]int, 0, len(v.rows))
	prefix, _ := netip.ParsePrefix(filter) // or zero, which contains no address
	for i := range v.rows {
		if v.rows[i].present && (filter == "" || v.matches(i, filter, prefix)) {
			found = append(found, i)
		}
	}
	return found
}

// contains reports whether the IP, hostname or MAC of a talker contains a text in lower case.
func (s *samples) contains(k *talker, text string) bool {
	if strings.Contains(k.ip(), text) {
		return true
	}
	info := s.info(k)
	return strings.Contains(strings.ToLower(info.Hostname), text) || strings.Contains(info.MAC, text)
}

// page returns the rows that a query asks for, in order. It overwrites found.
func (v view) page(found []int, q Query) []int {
	compare := v.order(q, found)
	end := q.Offset + q.Limit
	// To sort a table of many thousands would take most of the time: once there are twice as many as needed, the rest is dropped, and
	// others must come before the last one that stays.
	first, full := found[:0], false
	for _, at := range found {
		if full && compare(at, first[end-1]) > 0 {
			continue
		}
		if first = append(first, at); len(first) == 2*end {
			slices.SortFunc(first, compare)
			first, full = first[:end], true
		}
	}
	slices.SortFunc(first, compare)
	end = min(end, len(first))
	return first[min(q.Offset, end):end]
}

// order returns the comparison of two rows by their indexes. None are equal.
func (v view) order(q Query, found []int) func(a, b int) int {
	direction := 1
	if q.Reverse {
		direction = -1
	}
	byAddress := func(a, b int) int {
		x, y := &v.rows[a], &v.rows[b]
		if x.addr.IsValid() != y.addr.IsValid() { // "other" is last
			return cmp.Compare(b, a)
		}
		return x.addr.Compare(y.addr)
	}
	first := byAddress
	if value := sortValues[q.Sort]; value != nil {
		first = func(a, b int) int { return cmp.Compare(value(&v.rows[b]), value(&v.rows[a])) }
	} else if q.Sort == "hostname" {
		names := make(map[int]string, len(found))
		for _, at := range found {
			names[at] = strings.ToLower(v.names(at).Hostname)
		}
		first = func(a, b int) int {
			if (names[a] == "") != (names[b] == "") { // those without a name are last in both directions
				return direction * cmp.Compare(names[b], names[a])
			}
			return cmp.Compare(names[a], names[b])
		}
	}
	return func(a, b int) int {
		if order := direction * first(a, b); order != 0 {
			return order
		}
		return cmp.Or(cmp.Compare(v.rows[b].total.sum(), v.rows[a].total.sum()), byAddress(a, b), cmp.Compare(a, b))
	}
}

// sortValues are the values that talkers are sorted by. Rates have the order of what moved in the window.
var sortValues = map[string]func(*talker) int64{
	"rate":           func(k *talker) int64 { return k.recent().sum() },
	"receive_rate":   func(k *talker) int64 { return k.recent().receive },
	"transmit_rate":  func(k *talker) int64 { return k.recent().transmit },
	"total":          func(k *talker) int64 { return k.total.sum() },
	"receive_total":  func(k *talker) int64 { return k.total.receive },
	"transmit_total": func(k *talker) int64 { return k.total.transmit },
}
