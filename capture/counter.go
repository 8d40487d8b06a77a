package capture

import "promflow/capture/frame"

// Counter adds the packets of one source to the table: a packet counts as transmitted by its source address and as
// received by its destination, each only if it is monitored, and not at all if either is excluded.
//
// It is a [sync.Locker] on the table: a source locks it for a batch of packets.
type Counter struct {
	table               *Table
	monitored, excluded Subnets
	outcomes            [frame.Outcomes]OutcomeSize
}

// NewCounter makes a counter for one source of the table.
func NewCounter(table *Table, monitored, excluded Subnets) *Counter {
	return &Counter{table: table, monitored: monitored, excluded: excluded}
}

// Lock must be held for Count.
func (c *Counter) Lock() { c.table.lock() }

// Unlock ends a batch.
func (c *Counter) Unlock() { c.table.mu.Unlock() }

// Count adds a decoded packet, with the lock held. It allocates nothing, but for an address that is new to the table.
func (c *Counter) Count(p *frame.Packet) {
	outcome := p.Outcome
	if outcome == frame.Counted {
		outcome = c.add(p)
	}
	c.AddOutcome(outcome, OutcomeSize{p.Packets, p.Bytes})
}

func (c *Counter) add(p *frame.Packet) frame.Outcome {
	// The addresses become numbers once, for all that is to be looked up.
	var (
		source, destination uint128
		from, to            bool // monitored
	)
	if p.Source.Is4() {
		s, d := v4Number(p.Source), v4Number(p.Destination)
		if c.excluded.contains4(s) || c.excluded.contains4(d) {
			return frame.Excluded
		}
		from, to = c.monitored.contains4(s), c.monitored.contains4(d)
		source.lo, destination.lo = uint64(s), uint64(d)
	} else {
		source, destination = v6Number(p.Source), v6Number(p.Destination)
		if c.excluded.contains6(source) || c.excluded.contains6(destination) {
			return frame.Excluded
		}
		from, to = c.monitored.contains6(source), c.monitored.contains6(destination)
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

// Monitored gives the subnets whose addresses count, for a backend that counts by itself.
func (c *Counter) Monitored() Subnets { return c.monitored }

// Excluded gives the subnets whose packets do not count, for a backend that counts by itself.
func (c *Counter) Excluded() Subnets { return c.excluded }

// Limit is how many addresses the table tracks at most.
func (c *Counter) Limit() int { return c.table.limit }

// Add adds what a backend that counts by itself has counted for a key, with the lock held. The zero Key stands for addresses
// that the backend had no room for.
func (c *Counter) Add(key Key, more Totals) {
	t := &c.table.other
	if key != (Key{}) {
		t = c.table.totals(key, number(key.Addr))
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
