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

// Query is a question: which talkers, in which order. The zero Query asks for those with the highest rates.
type Query struct {
	Sort    string // one of Sorts; "" is the first
	Reverse bool   // the lowest first, names from Z to A
	Filter  string // what IP, hostname or MAC contain in either case, or the prefix that addresses are in
	Limit   int    // how many; 0 is DefaultLimit
	Offset  int    // how many to leave out before
}

// How many talkers a report has.
const (
	DefaultLimit = 50
	MaxLimit     = 1000
)

// maxFilter is how long a filter can be, in bytes.
const maxFilter = 253

// Sorts are the orders of talkers: the highest first, or by name.
var Sorts = []string{"rate", "receive_rate", "transmit_rate", "total", "receive_total", "transmit_total", "ip", "hostname"}

// ParseQuery reads the parameters sort, reverse, filter, limit and offset.
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
	q.Sort, q.Filter = v.Get("sort"), v.Get("filter")
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

// canonical gives what asks the same in one way.
func (q Query) canonical() Query {
	q.Sort = cmp.Or(q.Sort, Sorts[0])
	q.Filter = strings.ToLower(strings.TrimSpace(q.Filter))
	q.Limit = min(max(cmp.Or(q.Limit, DefaultLimit), 1), MaxLimit)
	q.Offset = max(q.Offset, 0)
	return q
}

// Values gives the parameters that ParseQuery reads.
func (q Query) Values() url.Values {
	v := url.Values{}
	set := func(name, value string, is bool) {
		if is {
			v.Set(name, value)
		}
	}
	set("sort", q.Sort, q.Sort != "")
	set("reverse", "true", q.Reverse)
	set("filter", q.Filter, q.Filter != "")
	set("limit", strconv.Itoa(q.Limit), q.Limit != 0)
	set("offset", strconv.Itoa(q.Offset), q.Offset != 0)
	return v
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
		Talkers:         []Talker{},
	}
	found := s.find(q.Filter)
	r.Matching = len(found)
	all := s.all.window().sum()
	for _, at := range s.page(found, q) {
		k := &s.talkers[at]
		info := s.info(k)
		talker := Talker{IP: k.ip(), Hostname: info.Hostname, MAC: info.MAC, Traffic: s.traffic(k), History: s.historyOf(at)}
		if all > 0 {
			talker.Share = float64(k.window().sum()) / float64(all)
		}
		r.Talkers = append(r.Talkers, talker)
	}
	return r
}

func (k *talker) ip() string { return telemetry.Host{Addr: k.addr, Bits: int(k.bits)}.IP() }

// info gives the names of a talker that is an address.
func (s *samples) info(k *talker) telemetry.HostInfo {
	if s.reading.Info == nil || !k.addr.IsValid() || k.bits > 0 {
		return telemetry.HostInfo{}
	}
	return s.reading.Info(k.addr)
}

// find gives where those talkers are that a filter lets through.
func (s *samples) find(filter string) []int {
	found := make([]int, 0, len(s.talkers))
	prefix, err := netip.ParsePrefix(filter)
	isPrefix := err == nil
	for i := range s.talkers {
		k := &s.talkers[i]
		switch {
		case !k.present:
		case filter == "", isPrefix && k.addr.IsValid() && prefix.Contains(k.addr):
			found = append(found, i)
		case strings.Contains(k.ip(), filter):
			found = append(found, i)
		default:
			if info := s.info(k); strings.Contains(strings.ToLower(info.Hostname), filter) || strings.Contains(info.MAC, filter) {
				found = append(found, i)
			}
		}
	}
	return found
}

// page puts the talkers into order, as many as are asked for.
func (s *samples) page(found []int, q Query) []int {
	compare := s.order(q, found)
	// What is beyond the page needs no order: with a table of many thousands, to sort all of them would be most of the work.
	end := min(q.Offset+q.Limit, len(found))
	selectFirst(found, end, compare)
	slices.SortFunc(found[:end], compare)
	return found[min(q.Offset, end):end]
}

// order tells which of two talkers comes first. No two are equal.
func (s *samples) order(q Query, found []int) func(a, b int) int {
	byAddress := func(a, b int) int {
		x, y := &s.talkers[a], &s.talkers[b]
		if x.addr.IsValid() != y.addr.IsValid() { // the others are last
			return cmp.Compare(b, a)
		}
		return x.addr.Compare(y.addr)
	}
	first := byAddress
	if q.Sort == "hostname" {
		names := make(map[int]string, len(found))
		for _, at := range found {
			names[at] = strings.ToLower(s.info(&s.talkers[at]).Hostname)
		}
		first = func(a, b int) int {
			if (names[a] == "") != (names[b] == "") { // who has none is last, in either direction
				order := cmp.Compare(names[b], names[a])
				if q.Reverse {
					order = -order
				}
				return order
			}
			return cmp.Compare(names[a], names[b])
		}
	} else if value := values[q.Sort]; value != nil {
		first = func(a, b int) int { return cmp.Compare(value(&s.talkers[b]), value(&s.talkers[a])) }
	}
	return func(a, b int) int {
		order := first(a, b)
		if q.Reverse {
			order = -order
		}
		if order == 0 {
			order = cmp.Compare(s.talkers[b].total.sum(), s.talkers[a].total.sum())
		}
		if order == 0 {
			order = cmp.Or(byAddress(a, b), cmp.Compare(a, b))
		}
		return order
	}
}

// values are what talkers are sorted by. A rate is in the order of what moved in the window.
var values = map[string]func(*talker) int64{
	"rate":           func(k *talker) int64 { return k.window().sum() },
	"receive_rate":   func(k *talker) int64 { return k.window().receive },
	"transmit_rate":  func(k *talker) int64 { return k.window().transmit },
	"total":          func(k *talker) int64 { return k.total.sum() },
	"receive_total":  func(k *talker) int64 { return k.total.receive },
	"transmit_total": func(k *talker) int64 { return k.total.transmit },
}

// selectFirst brings the n that come first to the begin, in any order (quickselect).
func selectFirst(all []int, n int, compare func(a, b int) int) {
	for len(all) > n && n > 0 {
		pivot := all[len(all)/2]
		less, greater := 0, len(all)-1
		for i := 0; i <= greater; {
			switch order := compare(all[i], pivot); {
			case order < 0:
				all[i], all[less] = all[less], all[i]
				less++
				i++
			case order > 0:
				all[i], all[greater] = all[greater], all[i]
				greater--
			default:
				i++
			}
		}
		switch { // [0, less) come before the pivot, [less, greater] are it
		case n <= less:
			all = all[:less]
		case n > greater:
			all, n = all[greater+1:], n-greater-1
		default:
			return
		}
	}
}
