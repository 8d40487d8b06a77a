package flow

import "sync/atomic"

// Limits bound what all decoders keep together, and say what they look for.
type Limits struct {
	Templates Budget // bytes of templates, sampling rates and what else exporters say
	Waiting   Budget // bytes of data that wait for their template
	Domains   Budget // sources of sequence numbers: each takes 16 KB at most

	IgnoreRates bool // what exporters say of sampling does not matter
}

// NewLimits returns the limits of a collector.
func NewLimits() *Limits {
	l := new(Limits)
	l.Templates.left.Store(32 << 20) // of a thousand exporters with a hundred templates of twenty fields each
	l.Waiting.left.Store(16 << 20)
	l.Domains.left.Store(4096)
	return l
}

// Budget is an amount that can be taken and given back. It is safe for concurrent use.
type Budget struct {
	left  atomic.Int64
	short atomic.Bool
}

// Take takes so much, if it is left.
func (b *Budget) Take(n int) bool {
	if b.left.Add(-int64(n)) < 0 {
		b.left.Add(int64(n))
		b.short.Store(true)
		return false
	}
	return true
}

// Give gives some back.
func (b *Budget) Give(n int) { b.left.Add(int64(n)) }

// Left is how much is left.
func (b *Budget) Left() int64 { return b.left.Load() }

// wasShort tells whether somebody could not take enough since the last call.
func (b *Budget) wasShort() bool { return b.short.Swap(false) }
