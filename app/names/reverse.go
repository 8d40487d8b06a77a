package names

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"
)

// How many questions the resolver gets, and how long an answer holds.
const (
	lookupsPerSecond = 20
	lookupsAtOnce    = 8
	lookupsQueued    = 512
	lookupTimeout    = 12 * time.Second // Go tries the second server after 5 s (resolv.conf(5))

	keepName    = time.Hour
	keepNoName  = 15 * time.Minute
	keepFailure = time.Minute // doubles with each further failure, as long as the resolver answers other questions
	maxDoubled  = 4

	// After silentAfter lookups in a row without an answer, no server seems to be there. From then on there is one lookup at a time,
	// with a pause after each, until a server answers.
	silentAfter = 16
	silentPause = 5 * time.Second
)

// errFailed says that a name server was there, and failed to answer, as with SERVFAIL.
var errFailed = errors.New("the name server cannot answer")

// lookupBy returns a function that asks this machine's resolver for the names of an address. It uses Go's own resolver, because a lookup by
// the C library cannot be cancelled. Go's resolver heeds deadlines, but not cancellation, so its connections are closed when the context
// ends.
func lookupBy(dial func(ctx context.Context, network, address string) (net.Conn, error)) func(context.Context, string) ([]string, error) {
	return func(ctx context.Context, addr string) ([]string, error) {
		var heard atomic.Bool // a server has responded: errors of package net do not tell SERVFAIL from a closed port
		resolver := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := dial(ctx, network, address)
			if err != nil {
				return nil, err
			}
			context.AfterFunc(ctx, func() { c.Close() })
			if udp, ok := c.(*net.UDPConn); ok {
				return heardConn{udp, &heard}, nil
			}
			return c, nil
		}}
		names, err := resolver.LookupAddr(ctx, addr)
		if err != nil && heard.Load() {
			err = fmt.Errorf("%w: %w", errFailed, err)
		}
		return names, err
	}
}

// heardConn is a connection to a server that notes when the server responds.
type heardConn struct {
	*net.UDPConn
	heard *atomic.Bool
}

func (c heardConn) Read(b []byte) (int, error) {
	n, err := c.UDPConn.Read(b)
	if err == nil {
		c.heard.Store(true)
	}
	return n, err
}

// reverse looks up the hostnames of addresses in DNS, and remembers them.
type reverse struct {
	lookup  func(ctx context.Context, addr string) ([]string, error)
	limit   int // of addresses
	log     *slog.Logger
	limiter *rate.Limiter
	queue   chan netip.Addr

	mu         sync.Mutex
	answers    map[netip.Addr]*list.Element // elements of recent
	recent     *list.List                   // of *answer; the most recently used is in front
	unanswered int                          // lookups since the last answer
	toldSilent bool                         // the log has been told that no server answers
}

// answer is what is known of an address.
type answer struct {
	addr     netip.Addr
	name     string
	until    time.Time // when to ask again; zero: it was never looked up
	failures int
	queued   bool
}

func newReverse(lookup func(context.Context, string) ([]string, error), limit int, log *slog.Logger) *reverse {
	return &reverse{
		lookup: lookup, limit: limit, log: log,
		limiter: rate.NewLimiter(lookupsPerSecond, 1), queue: make(chan netip.Addr, lookupsQueued),
		answers: map[netip.Addr]*list.Element{}, recent: list.New(),
	}
}

// name returns the last known name, and queues addr for a lookup if the answer is too old. If the queue is full, the next reading tries
// again.
func (r *reverse) name(addr netip.Addr) string {
	// No server knows multicast, link-local, unspecified and broadcast addresses.
	if !addr.IsGlobalUnicast() && !addr.IsLoopback() {
		return ""
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	e, known := r.answers[addr]
	if known {
		r.recent.MoveToFront(e)
	} else {
		if r.recent.Len() >= r.limit {
			delete(r.answers, r.recent.Remove(r.recent.Back()).(*answer).addr)
		}
		e = r.recent.PushFront(&answer{addr: addr})
		r.answers[addr] = e
	}
	a := e.Value.(*answer)
	// Half of the queue is reserved for addresses that were never looked up. If there are more addresses than can be looked up in time,
	// the first ones of each reading would otherwise fill the queue again and again.
	if !a.queued && (a.until.IsZero() || len(r.queue) < lookupsQueued/2 && !time.Now().Before(a.until)) {
		select {
		case r.queue <- addr:
			a.queued = true
		default:
		}
	}
	return a.name
}

// run looks up queued addresses until ctx ends.
func (r *reverse) run(ctx context.Context) {
	var lookups errgroup.Group
	lookups.SetLimit(lookupsAtOnce)
	defer lookups.Wait()
	for {
		var addr netip.Addr
		select {
		case <-ctx.Done():
			return
		case addr = <-r.queue:
		}
		if r.silent() {
			lookups.Wait()
			if r.ask(ctx, addr); r.silent() && !sleep(ctx, silentPause) {
				return
			}
			continue
		}
		if r.limiter.Wait(ctx) != nil {
			return
		}
		lookups.Go(func() error { r.ask(ctx, addr); return nil })
	}
}

// silent tells whether no server seems to answer, and logs each change of that.
func (r *reverse) silent() bool {
	r.mu.Lock()
	silent := r.unanswered >= silentAfter
	news := silent != r.toldSilent
	r.toldSilent = silent
	r.mu.Unlock() // before logging: if nobody reads the log, callers of name must not wait for it
	switch {
	case news && silent:
		r.log.Warn("the resolver does not answer: promflow asks it for hostnames only now and then (see --reverse-dns)")
	case news:
		r.log.Info("the resolver answers again")
	}
	return silent
}

// ask looks addr up.
func (r *reverse) ask(ctx context.Context, addr netip.Addr) {
	limited, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	names, err := r.lookup(limited, addr.String())
	if ctx.Err() == nil {
		r.store(addr, names, err)
	}
}

// store keeps the result of a lookup. A failure says nothing about a known name, so that stays until there is another answer.
func (r *reverse) store(addr netip.Addr, names []string, err error) {
	for i := range names {
		names[i] = hostname(names[i])
	}
	names = slices.DeleteFunc(names, func(name string) bool { return name == "" })
	notFound := (*net.DNSError)(nil)
	answered := len(names) > 0 || err == nil || errors.As(err, &notFound) && notFound.IsNotFound

	r.mu.Lock()
	defer r.mu.Unlock()
	silent := r.unanswered >= silentAfter
	if r.unanswered++; answered || errors.Is(err, errFailed) { // many zones in the internet fail; the resolver is there
		r.unanswered = 0
	}
	e, known := r.answers[addr]
	if !known {
		return // another address has taken its place
	}
	a := e.Value.(*answer)
	a.queued = false
	now := time.Now()
	switch {
	case !answered:
		a.until = now.Add(keepFailure << min(a.failures, maxDoubled))
		if !silent { // else the address is not to blame
			a.failures++
		}
	case len(names) == 0:
		a.name, a.until, a.failures = "", now.Add(keepNoName), 0
	default:
		if !slices.Contains(names, a.name) { // servers change the order of several names
			a.name = slices.Min(names)
		}
		a.until, a.failures = now.Add(keepName), 0
	}
}
