// Package talkers tells who moves how much right now: the rates of addresses, which totals alone do not show. It is what
// promflow's own page and promflow top ask.
//
// Rates need readings at regular times, and those cost: they are taken only while somebody asks.
package talkers

import (
	"context"
	"sync"
	"time"

	"promflow/telemetry"
)

const (
	// Interval is the time between two readings. Rates are means over the last two intervals: a ring's counts are up to 80 ms
	// old, which is 2 % of that.
	Interval = 2 * time.Second
	// firstInterval is the time to the second reading, before which there are no rates.
	firstInterval = time.Second
	// patience is for how long readings go on when nobody asks any more.
	patience = 5 * Interval
)

// Talkers reads while somebody asks. Its methods are safe for concurrent use.
type Talkers struct {
	read   func() telemetry.Reading
	wanted chan struct{} // tells Run that somebody asks

	mu      sync.Mutex
	asked   time.Time // when somebody last did
	samples *samples  // nil while nobody asks
	history History   // of all addresses together; it stays
	answers map[Query]*Report
}

// New makes a Talkers of what read returns. What the sequence of addresses has at a place in one reading, it has at the same in the
// next one, but for addresses that made room for others.
func New(read func() telemetry.Reading) *Talkers {
	return &Talkers{read: read, wanted: make(chan struct{}, 1)}
}

// Run takes readings, while somebody asks, until ctx ends. It always returns nil.
func (t *Talkers) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.wanted:
			t.watch(ctx)
		}
	}
}

// watch takes readings until nobody asks.
func (t *Talkers) watch(ctx context.Context) {
	timer := time.NewTimer(firstInterval)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			timer.Reset(Interval)
			if !t.sample() {
				return
			}
		}
	}
}

// sample takes a reading, unless nobody asks any more: then it lets go of those that there are.
func (t *Talkers) sample() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.answers)
	if time.Since(t.asked) > patience {
		t.samples, t.answers = nil, nil
		return false
	}
	t.take()
	return true
}

// take takes a reading. The caller holds the lock.
func (t *Talkers) take() {
	t.samples.take(t.read(), time.Now())
	t.history.add(t.samples)
}

// maxAnswers is how many questions about one reading have their answers kept.
const maxAnswers = 16

// Report answers a question by the last reading. The first one, after a while without, is answered by a reading of this moment,
// which has no rates yet. Who asks the same gets the same Report: it is to be read only.
func (t *Talkers) Report(q Query) *Report {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.asked = time.Now()
	if t.samples == nil {
		t.samples, t.answers = &samples{}, map[Query]*Report{}
		t.take()
		select {
		case t.wanted <- struct{}{}:
		default: // it has yet to hear of an earlier one
		}
	}
	if known := t.answers[q]; known != nil {
		return known
	}
	r := t.samples.report(q)
	r.History = t.history.clone()
	if len(t.answers) < maxAnswers {
		t.answers[q] = r
	}
	return r
}
