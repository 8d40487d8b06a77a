package usage

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"promflow/app/history"
)

// Query says what an answer has. The zero Query asks for all devices in the month that has not ended.
type Query struct {
	Period  string // see Span; "" is DefaultPeriod
	By      string // one of Kinds; "" is the first
	Of      string // the ID of a row, or an address, MAC or network in any spelling: only what that moved
	Filter  string // a part of an IP address, hostname, MAC or network, in either case, or a prefix
	Sort    string // one of Sorts; "" is the first
	Reverse bool   // the lowest first, names from Z to A
	Limit   int    // how many rows; 0 is all
	Offset  int    // how many rows to skip
}

// DefaultPeriod is the period of the zero Query.
const DefaultPeriod = "month"

// Kinds are what rows can be, in the order of [history.By].
var Kinds = []string{"device", "ip", "network"}

// Sorts are the orders of rows: those that moved most first, or by name.
var Sorts = []string{"total", "receive", "transmit", "ip", "hostname"}

// Outputs are the formats of an answer.
var Outputs = []string{"text", "csv", "json"}

// Limits of a query.
const (
	maxText = 253 // bytes
	maxRows = 1 << 30
)

// ParseQuery reads the parameters period, by, of, filter, sort, reverse, limit and offset. Span checks the period further.
func ParseQuery(v url.Values) (q Query, err error) {
	var errs []error
	expect := func(name string, ok bool, what string) {
		if !ok {
			errs = append(errs, fmt.Errorf("%s=%q: expected %s", name, v.Get(name), what))
		}
	}
	choice := func(name string, choices []string) string {
		text := v.Get(name)
		expect(name, text == "" || slices.Contains(choices, text), "one of "+strings.Join(choices, ", "))
		return text
	}
	short := func(name string) string {
		text := v.Get(name)
		expect(name, len(text) <= maxText && utf8.ValidString(text), fmt.Sprintf("at most %d bytes of UTF-8", maxText))
		return text
	}
	number := func(name string) int {
		n, err := strconv.Atoi(v.Get(name))
		expect(name, v.Get(name) == "" || err == nil && n >= 0 && n <= maxRows, fmt.Sprintf("a number from 0 to %d", maxRows))
		return n
	}
	q = Query{
		Period: short("period"), By: choice("by", Kinds), Of: short("of"), Filter: short("filter"), Sort: choice("sort", Sorts),
		Limit: number("limit"), Offset: number("offset"),
	}
	if text := v.Get("reverse"); text != "" {
		q.Reverse, err = strconv.ParseBool(text)
		expect("reverse", err == nil, "true or false")
	}
	return q.canonical(), errors.Join(errs...)
}

// canonical returns the same query with defaults.
func (q Query) canonical() Query {
	q.Period, q.By, q.Sort = cmp.Or(q.Period, DefaultPeriod), cmp.Or(q.By, Kinds[0]), cmp.Or(q.Sort, Sorts[0])
	q.Of, q.Filter = spelling(strings.TrimSpace(q.Of)), strings.ToLower(strings.TrimSpace(q.Filter))
	return q
}

// spelling writes an address, a prefix or a MAC as IDs of rows do. Others stay as they are.
func spelling(id string) string {
	if addr, err := netip.ParseAddr(id); err == nil {
		return addr.Unmap().String()
	}
	if prefix, err := netip.ParsePrefix(id); err == nil {
		if addr := prefix.Addr(); addr.Is4In6() && prefix.Bits() >= 96 {
			prefix = netip.PrefixFrom(addr.Unmap(), prefix.Bits()-96)
		}
		return history.Text(prefix.Masked())
	}
	if mac, err := net.ParseMAC(id); err == nil && len(mac) == 6 {
		return mac.String()
	}
	return id
}

// values returns the parameters that ParseQuery reads.
func (q Query) values() url.Values {
	q = q.canonical()
	return url.Values{
		"period": {q.Period}, "by": {q.By}, "of": {q.Of}, "filter": {q.Filter}, "sort": {q.Sort},
		"reverse": {strconv.FormatBool(q.Reverse)}, "limit": {strconv.Itoa(q.Limit)}, "offset": {strconv.Itoa(q.Offset)},
	}
}

// find returns the rows that match the filter, in order.
func (q Query) find(rows []history.Row) []history.Row {
	prefix, _ := netip.ParsePrefix(q.Filter) // or zero, which contains no address
	found := make([]history.Row, 0, len(rows))
	for i := range rows {
		if q.Filter == "" || contains(&rows[i], q.Filter, prefix) {
			found = append(found, rows[i])
		}
	}
	compare := map[string]func(a, b *history.Row) int{
		"total":    func(a, b *history.Row) int { return cmp.Compare(b.Receive+b.Transmit, a.Receive+a.Transmit) },
		"receive":  func(a, b *history.Row) int { return cmp.Compare(b.Receive, a.Receive) },
		"transmit": func(a, b *history.Row) int { return cmp.Compare(b.Transmit, a.Transmit) },
		"ip":       func(a, b *history.Row) int { return slices.CompareFunc(a.Addrs, b.Addrs, netip.Prefix.Compare) },
		"hostname": compareNames,
	}[q.Sort]
	if q.Sort == Sorts[0] && !q.Reverse { // rows are in this order
		return found
	}
	last := func(r *history.Row) int { // in either direction
		switch {
		case r.Other:
			return 2
		case q.Sort == "hostname" && r.Hostname == "":
			return 1
		}
		return 0
	}
	slices.SortStableFunc(found, func(a, b history.Row) int {
		c := compare(&a, &b)
		if q.Reverse {
			c = -c
		}
		return cmp.Or(cmp.Compare(last(&a), last(&b)), c)
	})
	return found
}

func compareNames(a, b *history.Row) int {
	return cmp.Or(strings.Compare(strings.ToLower(a.Hostname), strings.ToLower(b.Hostname)), strings.Compare(a.ID, b.ID))
}

// contains reports whether a row has a text in lower case, or an address in a prefix.
func contains(r *history.Row, text string, prefix netip.Prefix) bool {
	for _, name := range []string{r.ID, r.Hostname, r.MAC, r.Network} {
		if strings.Contains(strings.ToLower(name), text) {
			return true
		}
	}
	return slices.ContainsFunc(r.Addrs, func(at netip.Prefix) bool {
		return prefix.Contains(at.Addr()) || strings.Contains(history.Text(at), text)
	})
}
