package capture

import (
	"net/netip"

	"promflow/capture/frame"
	"promflow/capture/labels"
	"promflow/capture/subnets"
)

// Counter adds the packets of one source to the table: a packet counts as transmitted by its source address and as
// received by its destination, each only if it is monitored, and not at all if either is excluded.
//
// It is a [sync.Locker] on the table: a source locks it for a batch of packets.
type Counter struct {
	table               *Table
	monitored, excluded subnets.Set
	outcomes            [frame.Outcomes]OutcomeSize
	seenOn              uint16 // number of the interface
}

// NewCounter makes a counter for one source of the table.
func NewCounter(table *Table, monitored, excluded subnets.Set) *Counter {
	return &Counter{table: table, monitored: monitored, excluded: excluded}
}

// SeenOn names the interface of what is counted from now on.
func (c *Counter) SeenOn(name string) {
	if g := c.table.group; g != nil {
		number := g.InterfaceNumber(name)
		c.Lock()
		defer c.Unlock()
		c.seenOn = number
	}
}

// Lock must be held for Count.
func (c *Counter) Lock() { c.table.lock() }

// Unlock ends a batch.
func (c *Counter) Unlock() { c.table.mu.Unlock() }

// Count adds a decoded packet, with the lock held. It allocates nothing, but for an address that is new to the table.
func (c *Counter) Count(p *frame.Packet) {
	outcome := p.Outcome
	if outcome == frame.Counted {
		if c.table.group == nil {
			outcome = c.add(p)
		} else {
			outcome = c.addGrouped(p)
		}
	}
	c.AddOutcome(outcome, OutcomeSize{p.Packets, p.Bytes})
}

func (c *Counter) add(p *frame.Packet) frame.Outcome {
	// The addresses become numbers once, for all that is to be looked up.
	var (
		source, destination subnets.Number
		from, to            bool // monitored
	)
	if p.Source.Is4() {
		s, d := subnets.Number4(p.Source), subnets.Number4(p.Destination)
		if c.excluded.Contains4(s) || c.excluded.Contains4(d) {
			return frame.Excluded
		}
		from, to = c.monitored.Contains4(s), c.monitored.Contains4(d)
		source.Lo, destination.Lo = uint64(s), uint64(d)
	} else {
		source, destination = subnets.Number6(p.Source), subnets.Number6(p.Destination)
		if c.excluded.Contains6(source) || c.excluded.Contains6(destination) {
			return frame.Excluded
		}
		from, to = c.monitored.Contains6(source), c.monitored.Contains6(destination)
	}
	if from {
		t := c.table.totals(Key{p.Source}, source)
		t.TransmitBytes += p.Bytes
		t.TransmitPackets += p.Packets
	}
	if to {
		t := c.table.totals(Key{p.Destination}, destination)
		t.ReceiveBytes += p.Bytes
		t.ReceivePackets += p.Packets
	}
	if !from && !to {
		return frame.Unmonitored
	}
	return frame.Counted
}

// addGrouped is add where totals are not kept by single addresses alone.
func (c *Counter) addGrouped(p *frame.Packet) frame.Outcome {
	g := c.table.group
	var (
		source, destination subnets.Number
		from, to            *labels.Place
	)
	if p.Source.Is4() {
		s, d := subnets.Number4(p.Source), subnets.Number4(p.Destination)
		if c.excluded.Contains4(s) || c.excluded.Contains4(d) {
			return frame.Excluded
		}
		from, to = g.Place4(s), g.Place4(d)
		source.Lo, destination.Lo = uint64(s), uint64(d)
	} else {
		source, destination = subnets.Number6(p.Source), subnets.Number6(p.Destination)
		if c.excluded.Contains6(source) || c.excluded.Contains6(destination) {
			return frame.Excluded
		}
		from, to = g.Place6(source), g.Place6(destination)
	}
	if from.Monitored {
		t := c.table.grouped(p.Source, source, g.Of(from, to, true, p, c.seenOn))
		t.TransmitBytes += p.Bytes
		t.TransmitPackets += p.Packets
	}
	if to.Monitored {
		t := c.table.grouped(p.Destination, destination, g.Of(to, from, false, p, c.seenOn))
		t.ReceiveBytes += p.Bytes
		t.ReceivePackets += p.Packets
	}
	if !from.Monitored && !to.Monitored {
		return frame.Unmonitored
	}
	return frame.Counted
}

// AddSeries adds what a backend that counts by itself has counted for an address with these labels, with the lock held. Where
// addresses are grouped by prefixes, it is one whose other bits are 0.
func (c *Counter) AddSeries(addr netip.Addr, of labels.Values, more Totals) {
	c.table.labelled(Key{addr}, subnets.NumberOf(addr), of).add(more)
}

// Add adds what a backend that counts by itself has counted for a key, with the lock held. The zero Key stands for addresses
// that the backend had no room for. Where totals are kept apart by labels, it is for what had no room there.
func (c *Counter) Add(key Key, more Totals) {
	t := &c.table.other
	if key != (Key{}) {
		t = c.table.totals(key, subnets.NumberOf(key.Addr))
	}
	t.add(more)
}

// AddOutcome adds packets that a backend has counted by itself to those of an outcome, with the lock held.
func (c *Counter) AddOutcome(outcome frame.Outcome, more OutcomeSize) {
	o := &c.outcomes[outcome]
	o.Packets += more.Packets
	o.Bytes += more.Bytes
}

// Outcomes gives what became of all packets so far.
func (c *Counter) Outcomes() [frame.Outcomes]OutcomeSize {
	c.Lock()
	defer c.Unlock()
	return c.outcomes
}
