// Package talkers computes the current rates of addresses, for the live page and promflow top.
//
// Rates need readings at regular intervals. As these cost CPU time, they are taken only while somebody asks.
package talkers

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"promflow/telemetry"
)

const (
	// Interval is the time between two readings. Rates are means over the last two intervals: the counts of a ring are up to 80 ms
	// old, which is 2 % of these.
	Interval = 2 * time.Second
	// firstInterval is the time between the first two readings. There are no rates before.
	firstInterval = time.Second
	// patience is how long readings go on after the last question.
	patience = 5 * Interval
	// maxAnswers is how many answers are kept until the next reading.
	maxAnswers = 16
)

// Talkers answers queries. Its methods are safe for concurrent use.
type Talkers struct {
	read   func() telemetry.Reading
	wanted chan struct{} // tells Run that somebody asks

	mu      sync.Mutex
	asked   time.Time // when somebody last did
	samples *samples  // nil while nobody asks
	history History   // of all addresses together; kept while nobody asks
	answers map[Query]*answer
}

// answer is a report, which equal queries share.
type answer struct {
	*Report
	body func() ([]byte, error) // in JSON, and a line feed
}

// New returns the Talkers of the readings that read returns. An address must keep its place in the sequence of a reading, until it makes
// room for another one.
func New(read func() telemetry.Reading) *Talkers {
	return &Talkers{read: read, wanted: make(chan struct{}, 1)}
}

// Run takes readings while somebody asks, until ctx ends. It always returns nil.
func (t *Talkers) Run(ctx context.Context) error {
	var due <-chan time.Time // nil while nobody asks
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.wanted:
			due = time.After(firstInterval)
		case <-due:
			due = time.After(Interval)
			if !t.sample() {
				due = nil
			}
		}
	}
}

// sample takes a reading. If nobody asks any more, it drops the samples instead, and returns false.
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

// take takes a reading. The caller holds mu.
func (t *Talkers) take() {
	t.samples.take(t.read(), time.Now())
	t.history.add(t.samples)
}

// Report answers a query from the last reading. If there is none, because nobody asked for a while, it takes one, which has no rates
// yet. Equal queries share a Report: do not change it.
func (t *Talkers) Report(q Query) *Report { return t.answer(q).Report }

func (t *Talkers) answer(q Query) *answer {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.asked = time.Now()
	if t.samples == nil {
		t.samples, t.answers = &samples{}, map[Query]*answer{}
		t.take()
		select {
		case t.wanted <- struct{}{}:
		default: // Run has not received the last one yet
		}
	}
	if known := t.answers[q]; known != nil {
		return known
	}
	r := t.samples.report(q)
	r.History = t.history
	a := &answer{r, sync.OnceValues(func() ([]byte, error) {
		body, err := json.Marshal(r)
		return append(body, '\n'), err
	})}
	if len(t.answers) < maxAnswers {
		t.answers[q] = a
	}
	return a
}
