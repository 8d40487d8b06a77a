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
	lookupsAtOnce = 8
	lookupsQueued = 512
	lookupTimeout = 12 * time.Second // Go tries the second server after 5 s (resolv.conf(5))

	keepName    = time.Hour
	keepNoName  = 15 * time.Minute
	keepFailure = time.Minute // doubles with each further failure, as long as the resolver answers other questions
	maxDoubled  = 4

	// After silentAfter lookups in a row without an answer, no server seems to be there. From then on there is one lookup at a time,
	// with a pause after each, until a server answers.
	silentAfter = 16
	silentPause = 5 * time.Second

	// After refusedAfter addresses in a row for which a server said REFUSED, SERVFAIL or the like, and also one that had an answer before, it
	// has had enough of promflow's questions, or cannot answer any. Then it gets none for a while, and after that one at a time: each further
	// failure doubles the time.
	refusedAfter    = 8
	minRefusedPause = time.Minute
	maxRefusedPause = 30 * time.Minute
)

// errFailed says that a name server was there, and failed to answer, as with SERVFAIL.
var errFailed = errors.New("the name server cannot answer")

// errOnce ends a lookup: a server has responded, and gets no second question.
var errOnce = errors.New("a server has responded already")

// lookupBy returns a function that asks this machine's resolver for the names of an address. It uses Go's own resolver, because a lookup by
// the C library cannot be cancelled. Go's resolver heeds deadlines, but not cancellation, so its connections are closed when the context
// ends.
//
// Go's resolver asks all servers twice until one has an answer, also if they refuse to give one. Here the first response ends that, so that a
// lookup is one question unless packets get lost. The caller has waited for the limiter; each further question does so, too.
func lookupBy(dial func(ctx context.Context, network, address string) (net.Conn, error), limiter *rate.Limiter) func(context.Context, string) ([]string, error) {
	return func(ctx context.Context, addr string) ([]string, error) {
		var said response // errors of package net do not tell SERVFAIL from a closed port
		var again bool
		resolver := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			if said.heard.Load() && !said.truncated.Swap(false) { // what is truncated is asked for again by TCP
				return nil, errOnce
			}
			if again {
				if err := limiter.Wait(ctx); err != nil {
					return nil, err
				}
			}
			again = true
			c, err := dial(ctx, network, address)
			if err != nil {
				return nil, err
			}
			context.AfterFunc(ctx, func() { c.Close() })
			if udp, ok := c.(*net.UDPConn); ok {
				return udpHeard{udp, &said}, nil
			}
			return tcpHeard{c, &said}, nil
		}}
		names, err := resolver.LookupAddr(ctx, addr)
		if err != nil && said.heard.Load() {
			err = fmt.Errorf("%w: %w", errFailed, err)
		}
		return names, err
	}
}

// response is what is known of a server's response.
type response struct{ heard, truncated atomic.Bool }

// udpHeard is a connection to a server that notes the server's response. For package net it is a [net.PacketConn].
type udpHeard struct {
	*net.UDPConn
	said *response
}

func (c udpHeard) Read(b []byte) (int, error) {
	n, err := c.UDPConn.Read(b)
	if err == nil {
		c.said.truncated.Store(n > 2 && b[2]&2 != 0) // RFC 1035, 4.1.1
		c.said.heard.Store(true)
	}
	return n, err
}

// tcpHeard is the same for TCP.
type tcpHeard struct {
	net.Conn
	said *response
}

func (c tcpHeard) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err == nil {
		c.said.heard.Store(true)
	}
	return n, err
}

// reverse looks up the hostnames of addresses in DNS, and remembers them. A nil one knows none.
type reverse struct {
	lookup     func(ctx context.Context, addr string) ([]string, error)
	limit      int // of addresses
	keepNoName time.Duration
	log        *slog.Logger
	limiter    *rate.Limiter // of questions
	queue      chan netip.Addr

	mu         sync.Mutex
	answers    map[netip.Addr]*list.Element // elements of recent
	recent     *list.List                   // of *answer; the most recently used is in front
	unanswered int                          // lookups since the last answer
	toldSilent bool                         // the log has been told that no server answers
	news       uint64                       // how often a name has changed

	refused     map[netip.Addr]bool // those that a server failed to answer for since the last answer
	good        netip.Addr          // the last one that had an answer, if it has not failed since
	pause       time.Duration       // how long the server gets no question; 0: it may be asked
	pauseUntil  time.Time
	toldRefused bool // the log has been told that the server refuses
}

// answer is what is known of an address.
type answer struct {
	addr     netip.Addr
	name     string
	until    time.Time // when to ask again; zero: it was never looked up
	failures int
	queued   bool
}

// newReverse returns a reverse for so many questions a minute and so many addresses. Its lookup is to be set.
func newReverse(perMinute, limit int, log *slog.Logger) *reverse {
	return &reverse{
		limit: limit, keepNoName: keepNoName, log: log,
		limiter: rate.NewLimiter(rate.Limit(perMinute)/60, 1), queue: make(chan netip.Addr, lookupsQueued),
		answers: map[netip.Addr]*list.Element{}, recent: list.New(), refused: map[netip.Addr]bool{},
	}
}

// known returns the last known name.
func (r *reverse) known(addr netip.Addr) string {
	if r == nil {
		return ""
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if e, known := r.answers[addr]; known {
		return e.Value.(*answer).name
	}
	return ""
}

// renew has addr looked up again when it is asked for, because another host may have it now. Until then it keeps its name.
func (r *reverse) renew(addr netip.Addr) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if e, known := r.answers[addr]; known {
		a := e.Value.(*answer)
		if now := time.Now(); now.Before(a.until) {
			a.until = now
		}
	}
}

// changes counts the names that came, changed or went.
func (r *reverse) changes() uint64 {
	if r == nil {
		return 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.news
}

// name returns the last known name, and queues addr for a lookup if the answer is too old. If the queue is full, the next reading tries
// again. It tells whether a server was asked, or is left alone at present: if not, a name may come.
func (r *reverse) name(addr netip.Addr) (name string, asked bool) {
	// No server knows multicast, link-local, unspecified and broadcast addresses.
	if !addr.IsGlobalUnicast() && !addr.IsLoopback() {
		return "", true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	e, known := r.answers[addr]
	if known {
		r.recent.MoveToFront(e)
	} else {
		if r.recent.Len() >= r.limit {
			last := r.recent.Remove(r.recent.Back()).(*answer)
			if delete(r.answers, last.addr); last.name != "" {
				r.news++
			}
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
	return a.name, !a.until.IsZero() || r.unanswered >= silentAfter || r.pause > 0
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
		if r.doubtful().IsValid() {
			lookups.Wait() // which may have an answer
			if r.limiter.Wait(ctx) != nil {
				return
			}
			if good := r.doubtful(); good.IsValid() {
				r.ask(ctx, good)
			}
		}
		pause, refused := r.refuses()
		silent := !refused && r.silent()
		if refused || silent {
			lookups.Wait()
		}
		if refused && !sleep(ctx, pause) || r.limiter.Wait(ctx) != nil {
			return
		}
		if refused || silent {
			if r.ask(ctx, addr); silent && r.silent() && !sleep(ctx, silentPause) {
				return
			}
			continue
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

// refuses tells whether a server refuses to answer, and how long it gets no question. It logs each change of that.
func (r *reverse) refuses() (pause time.Duration, refused bool) {
	r.mu.Lock()
	refused = r.pause > 0
	pause = time.Until(r.pauseUntil)
	news := refused != r.toldRefused
	r.toldRefused = refused
	r.mu.Unlock() // before logging, as in silent
	switch {
	case news && refused:
		r.log.Warn("the resolver refuses to answer, or cannot: promflow asks it for no hostnames for a while (see --reverse-dns-rate)",
			"pause", minRefusedPause, "at most", maxRefusedPause)
	case news:
		r.log.Info("the resolver answers again")
	}
	return pause, refused
}

// doubtful returns an address that had an answer before, if many others have failed since. If that fails, too, it is the server's fault,
// and else that of the zones of the others: many a provider delegates the zone of its customers' addresses to nobody.
func (r *reverse) doubtful() netip.Addr {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.refused) < refusedAfter {
		return netip.Addr{}
	}
	return r.good
}

// heed notes what an answer or failure for addr says about the server. The caller holds mu.
func (r *reverse) heed(addr netip.Addr, failed bool, now time.Time) {
	if !failed {
		clear(r.refused)
		r.pause, r.good = 0, addr
		return
	}
	if len(r.refused) < refusedAfter {
		r.refused[addr] = true
	}
	if len(r.refused) == refusedAfter && !r.good.IsValid() && !now.Before(r.pauseUntil) { // else the question was older than the pause
		r.pause = min(max(2*r.pause, minRefusedPause), maxRefusedPause)
		r.pauseUntil = now.Add(r.pause)
	}
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

	now := time.Now()
	failed := !answered && errors.Is(err, errFailed)
	r.mu.Lock()
	defer r.mu.Unlock()
	silent := r.unanswered >= silentAfter
	if r.unanswered++; answered || failed { // the resolver is there
		r.unanswered = 0
	}
	if !answered && addr == r.good {
		r.good = netip.Addr{}
	}
	if answered || failed {
		r.heed(addr, failed, now)
	}
	e, known := r.answers[addr]
	if !known {
		return // another address has taken its place
	}
	a := e.Value.(*answer)
	a.queued = false
	was := a.name
	switch {
	case !answered:
		a.until = now.Add(keepFailure << min(a.failures, maxDoubled))
		if !silent { // else the address is not to blame
			a.failures++
		}
	case len(names) == 0:
		a.name, a.until, a.failures = "", now.Add(r.keepNoName), 0
	default:
		if !slices.Contains(names, a.name) { // servers change the order of several names
			a.name = slices.Min(names)
		}
		a.until, a.failures = now.Add(keepName), 0
	}
	if a.name != was {
		r.news++
	}
}
