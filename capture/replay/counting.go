package replay

import (
	"sync"

	"promflow/capture"
	"promflow/capture/frame"
)

// Reading and decoding takes a third of the time. Counting, which waits for the memory of each address, takes the rest. Both have a
// goroutine, and exchange a few batches of packets.
const (
	batchSize = 512 // packets
	batches   = 8
)

// counting is a goroutine that counts packets.
type counting struct {
	batch      []frame.Packet // that is being filled
	full, free chan []frame.Packet
	running    sync.WaitGroup
}

func startCounting(c *capture.Counter) *counting {
	n := &counting{
		batch: make([]frame.Packet, 0, batchSize),
		full:  make(chan []frame.Packet, batches),
		free:  make(chan []frame.Packet, batches),
	}
	for range batches - 1 {
		n.free <- make([]frame.Packet, 0, batchSize)
	}
	n.running.Go(func() {
		for batch := range n.full {
			c.Lock()
			for i := range batch {
				c.Count(&batch[i])
			}
			c.Unlock()
			n.free <- batch[:0]
		}
	})
	return n
}

// add adds a packet to the batch.
func (n *counting) add(p *frame.Packet) {
	n.batch = append(n.batch, *p)
	if len(n.batch) == cap(n.batch) {
		n.flush()
	}
}

// flush hands over the batch.
func (n *counting) flush() {
	if len(n.batch) > 0 {
		n.full <- n.batch
		n.batch = <-n.free
	}
}

// end returns when all packets are counted.
func (n *counting) end() {
	n.flush()
	close(n.full)
	n.running.Wait()
}
