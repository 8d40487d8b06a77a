package flow

import (
	"net/netip"
	"time"
)

// Receive has datagrams of one sender counted together, as if they had arrived at once. It returns how many were refused.
func (c *Collector) Receive(datagrams [][]byte, from netip.AddrPort, at time.Time, b *Batch) (refused int) {
	b.batch.of, b.batch.at = c, at
	for _, d := range datagrams {
		if !c.take(&b.batch, d, from) {
			refused++
		}
	}
	b.batch.count()
	return refused
}

// Batch is the memory of a reader of a socket.
type Batch struct{ batch batch }
