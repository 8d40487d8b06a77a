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
func (c *Counter) Lock() { c.table.mu.Lock() }

// Unlock ends a batch.
func (c *Counter) Unlock() { c.table.mu.Unlock() }

// Count adds a decoded packet, with the lock held. It allocates nothing, but for an address that is new to the table.
func (c *Counter) Count(p *frame.Packet) {
	outcome := p.Outcome
	if outcome == frame.Counted {
		outcome = c.add(p)
	}
	o := &c.outcomes[outcome]
	o.Packets += p.Packets
	o.Bytes += p.Bytes
}

func (c *Counter) add(p *frame.Packet) frame.Outcome {
	if c.excluded.Contains(p.Source) || c.excluded.Contains(p.Destination) {
		return frame.Excluded
	}
	outcome := frame.Unmonitored
	if c.monitored.Contains(p.Source) {
		t := c.table.totals(Key{p.Source})
		t.TransmitBytes += p.Bytes
		t.TransmitPackets += p.Packets
		outcome = frame.Counted
	}
	if c.monitored.Contains(p.Destination) {
		t := c.table.totals(Key{p.Destination})
		t.ReceiveBytes += p.Bytes
		t.ReceivePackets += p.Packets
		outcome = frame.Counted
	}
	return outcome
}

// Outcomes gives what became of all packets so far.
func (c *Counter) Outcomes() [frame.Outcomes]OutcomeSize {
	c.Lock()
	defer c.Unlock()
	return c.outcomes
}
