package replay

import (
	"promflow/capture"
	"promflow/capture/frame"
)

// To read and decode takes a third of the time, and to count, which waits for the memory of one address after another, the
// rest. Each has a goroutine of its own, and a few batches of packets go around between them.
const (
	batchSize = 512 // packets
	batches   = 8
)

// counting is a goroutine that counts packets.
type counting struct {
	batch      []frame.Packet // is being filled
	full, free chan []frame.Packet
	done       chan struct{}
}

func startCounting(c *capture.Counter) *counting {
	n := &counting{
		batch: make([]frame.Packet, 0, batchSize),
		full:  make(chan []frame.Packet, batches),
		free:  make(chan []frame.Packet, batches),
		done:  make(chan struct{}),
	}
	for range batches - 1 {
		n.free <- make([]frame.Packet, 0, batchSize)
	}
	go func() {
		defer close(n.done)
		for batch := range n.full {
			c.Lock()
			for i := range batch {
				c.Count(&batch[i])
			}
			c.Unlock()
			n.free <- batch[:0]
		}
	}()
	return n
}

// add has a packet counted, at the latest after the next flush.
func (n *counting) add(p *frame.Packet) {
	n.batch = append(n.batch, *p)
	if len(n.batch) == cap(n.batch) {
		n.flush()
	}
}

// flush hands over what was added.
func (n *counting) flush() {
	if len(n.batch) > 0 {
		n.full <- n.batch
		n.batch = <-n.free
	}
}

// end returns when everything that was added is counted.
func (n *counting) end() {
	n.flush()
	close(n.full)
	<-n.done
}
