package capture

import (
	"net/netip"

	"promflow/capture/frame"
	"promflow/capture/labels"
	"promflow/capture/subnets"
)

// Counter adds the packets of one source to a table. A packet counts as transmitted by its source address and as received by its
// destination address, each only if that address is monitored. It does not count if one of them is excluded.
//
// Count, Add and AddSeries need the table's lock, which a source takes with Lock for each batch of packets.
type Counter struct {
	table    *Table
	outcomes [frame.Outcomes]OutcomeSize
	seenOn   uint16 // number of the interface
}

// NewCounter returns a counter for one source.
func NewCounter(table *Table) *Counter { return &Counter{table: table} }

// SeenOn sets the interface of the packets that are counted from now on. It takes the lock.
func (c *Counter) SeenOn(name string) {
	if g := c.table.group; g != nil {
		number := g.InterfaceNumber(name)
		c.Lock()
		defer c.Unlock()
		c.seenOn = number
	}
}

// Lock begins a batch.
func (c *Counter) Lock() { c.table.lock() }

// Unlock ends a batch.
func (c *Counter) Unlock() { c.table.mu.Unlock() }

// Count adds a decoded packet, and returns what became of it. It allocates only for an address or series that is new to the table.
func (c *Counter) Count(p *frame.Packet) frame.Outcome {
	outcome := p.Outcome
	if outcome == frame.Counted {
		outcome = c.add(p)
	}
	of := &c.outcomes[outcome]
	of.Packets += p.Packets
	of.Bytes += p.Bytes
	return outcome
}

// CountOn is Count for a packet that was seen on the interface with this number of the table's grouping.
func (c *Counter) CountOn(number uint16, p *frame.Packet) frame.Outcome {
	c.seenOn = number
	return c.Count(p)
}

func (c *Counter) add(p *frame.Packet) frame.Outcome {
	var (
		source, destination subnets.Number // each address becomes a number once
		transmits, receives bool           // the source, the destination is monitored
		from, to            *labels.Place  // of both, if the table has a grouping
		g                   = c.table.group
		in                  = &c.table.subnets
	)
	if p.Source.Is4() {
		s, d := subnets.Number4(p.Source), subnets.Number4(p.Destination)
		if in.Excluded.Contains4(s) || in.Excluded.Contains4(d) {
			return frame.Excluded
		}
		if g == nil {
			transmits, receives = in.Monitored.Contains4(s), in.Monitored.Contains4(d)
		} else {
			from, to = g.Place4(s), g.Place4(d)
		}
		source.Lo, destination.Lo = uint64(s), uint64(d)
	} else {
		source, destination = subnets.Number6(p.Source), subnets.Number6(p.Destination)
		if in.Excluded.Contains6(source) || in.Excluded.Contains6(destination) {
			return frame.Excluded
		}
		if g == nil {
			transmits, receives = in.Monitored.Contains6(source), in.Monitored.Contains6(destination)
		} else {
			from, to = g.Place6(source), g.Place6(destination)
		}
	}
	if g != nil {
		transmits, receives = from.Monitored, to.Monitored
	}
	if !transmits && !receives {
		return frame.Unmonitored
	}
	var t *Totals
	if transmits {
		if g == nil {
			t = c.table.totals(p.Source, source, 0)
		} else {
			t = c.grouped(p.Source, source, g.Of(from, to, true, p, c.seenOn))
		}
		t.TransmitBytes += p.Bytes
		t.TransmitPackets += p.Packets
	}
	if receives {
		if g == nil {
			t = c.table.totals(p.Destination, destination, 0)
		} else {
			t = c.grouped(p.Destination, destination, g.Of(to, from, false, p, c.seenOn))
		}
		t.ReceiveBytes += p.Bytes
		t.ReceivePackets += p.Packets
	}
	return frame.Counted
}

// grouped returns the totals of an address of a packet for its labels, if the table has a grouping.
func (c *Counter) grouped(addr netip.Addr, n subnets.Number, of labels.Values) *Totals {
	addr, n = c.table.group.HostBits().Mask(addr, n)
	return c.table.totals(addr, n, of)
}

// Add adds what a backend has counted in the kernel for an address, apart from series. The invalid address stands for all addresses for
// which the kernel had no room.
func (c *Counter) Add(addr netip.Addr, more Totals) {
	if addr.IsValid() {
		c.AddSeries(addr, c.table.rest, more)
	} else {
		c.table.other.Add(more)
	}
}

// AddSeries adds what a backend has counted in the kernel for an address with these labels. If the table groups by prefix, the host bits of
// the address are 0.
func (c *Counter) AddSeries(addr netip.Addr, of labels.Values, more Totals) {
	c.table.totals(addr, subnets.NumberOf(addr), of).Add(more)
}

// Outcomes returns the outcomes of all packets so far. It takes the lock.
func (c *Counter) Outcomes() [frame.Outcomes]OutcomeSize {
	c.Lock()
	defer c.Unlock()
	return c.outcomes
}
