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

	"golang.org/x/time/rate"
)

// What a resolver has to bear, and for how long an answer holds.
const (
	lookupsPerSecond = 20
	lookupsAtOnce    = 8
	lookupsQueued    = 512
	lookupTimeout    = 12 * time.Second // a second server is tried after 5 s (resolv.conf(5))

	keepName    = time.Hour
	keepNoName  = 15 * time.Minute
	keepFailure = time.Minute // and twice as long each time, while others are answered
	mostDoubled = 4

	// After so many lookups without an answer, whatever they were about, nobody seems to be there: then one is asked at a time, after
	// a pause, until there is an answer.
	silentAfter = 16
	silentPause = 5 * time.Second
)

// errNoUse says that a server was heard, but has said nothing of use.
var errNoUse = errors.New("the name server cannot tell")

// lookup asks the system's resolver for the names of an address.
func lookup(ctx context.Context, addr string) ([]string, error) { return lookupBy(ctx, resolver, addr) }

func lookupBy(ctx context.Context, by *net.Resolver, addr string) ([]string, error) {
	heard := new(atomic.Bool)
	names, err := by.LookupAddr(context.WithValue(ctx, heardKey{}, heard), addr)
	if err != nil && heard.Load() {
		err = fmt.Errorf("%w: %w", errNoUse, err)
	}
	return names, err
}

// heardKey is for what is to become true once a server is heard: errors do not tell a SERVFAIL from a closed port.
type heardKey struct{}

// listened is a connection to a server.
type listened struct {
	*net.UDPConn
	heard *atomic.Bool
}

func (l listened) Read(b []byte) (int, error) {
	n, err := l.UDPConn.Read(b)
	if err == nil {
		l.heard.Store(true)
	}
	return n, err
}

// resolver is Go's own: the C library's could not be told to stop. Go's, too, stops at a deadline only, and not when it is told to,
// unless its connections do.
var resolver = &net.Resolver{
	PreferGo: true,
	Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, address)
		if err == nil {
			context.AfterFunc(ctx, func() { c.Close() })
		}
		heard, asked := ctx.Value(heardKey{}).(*atomic.Bool)
		if udp, ok := c.(*net.UDPConn); ok && asked {
			return listened{udp, heard}, nil
		}
		return c, err
	},
}

// reverse is what DNS has for addresses.
type reverse struct {
	lookup  func(ctx context.Context, addr string) ([]string, error)
	most    int
	log     *slog.Logger
	limiter *rate.Limiter
	queue   chan netip.Addr

	mu         sync.Mutex
	answers    map[netip.Addr]*list.Element // of recent
	recent     *list.List                   // of *answer, the one that was asked for last in front
	unanswered int                          // lookups since the last answer
	toldSilent bool
}

// answer is what DNS had for an address.
type answer struct {
	addr     netip.Addr
	name     string
	asked    bool      // has been
	until    time.Time // when to ask again
	failures int
	queued   bool
}

func newReverse(lookup func(context.Context, string) ([]string, error), most int, log *slog.Logger) *reverse {
	return &reverse{
		lookup: lookup, most: most, log: log,
		limiter: rate.NewLimiter(lookupsPerSecond, 1), queue: make(chan netip.Addr, lookupsQueued),
		answers: map[netip.Addr]*list.Element{}, recent: list.New(),
	}
}

// name gives what the last answer was, and queues addr if that does not hold any more. What finds no room in the queue comes again, with
// the next reading.
func (r *reverse) name(addr netip.Addr) string {
	if !hasReverse(addr) {
		return ""
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	e, known := r.answers[addr]
	if known {
		r.recent.MoveToFront(e)
	} else {
		if r.recent.Len() >= r.most {
			delete(r.answers, r.recent.Remove(r.recent.Back()).(*answer).addr)
		}
		e = r.recent.PushFront(&answer{addr: addr})
		r.answers[addr] = e
	}
	a := e.Value.(*answer)
	// Half of the queue is for addresses that were never asked about: where there are more than can be asked about in time, the first
	// ones of each reading would keep the others from their turn.
	if !a.queued && (!a.asked || len(r.queue) < lookupsQueued/2 && !time.Now().Before(a.until)) {
		select {
		case r.queue <- addr:
			a.queued = true
		default:
		}
	}
	return a.name
}

// hasReverse tells whether a name server may know addr: those of a link only, and of groups, it does not.
func hasReverse(addr netip.Addr) bool {
	return !addr.IsMulticast() && !addr.IsLinkLocalUnicast() && !addr.IsUnspecified() && addr != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// run asks, until ctx ends.
func (r *reverse) run(ctx context.Context) {
	var asking sync.WaitGroup
	defer asking.Wait()
	slots := make(chan struct{}, lookupsAtOnce)
	for {
		var addr netip.Addr
		select {
		case <-ctx.Done():
			return
		case addr = <-r.queue:
		}
		if r.silent() {
			asking.Wait()
			if r.ask(ctx, addr); r.silent() && !sleep(ctx, silentPause) {
				return
			}
			continue
		}
		if r.limiter.Wait(ctx) != nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case slots <- struct{}{}:
		}
		asking.Go(func() {
			r.ask(ctx, addr)
			<-slots
		})
	}
}

// silent tells whether there seems to be nobody who answers, and logs it once.
func (r *reverse) silent() bool {
	r.mu.Lock()
	silent := r.unanswered >= silentAfter
	news := silent != r.toldSilent
	r.toldSilent = silent
	r.mu.Unlock() // or a log that nobody reads would hold up who asks for names
	switch {
	case news && silent:
		r.log.Warn("the resolver does not answer: it is asked for the names of addresses only now and then (see --reverse-dns)")
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

// store keeps what a lookup gave. A name that was known stays until there is another answer: a failure says nothing about it.
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
	if r.unanswered++; answered || errors.Is(err, errNoUse) { // which many zones of other people are good for
		r.unanswered = 0
	}
	e, known := r.answers[addr]
	if !known {
		return // it has made room for others
	}
	a := e.Value.(*answer)
	a.queued, a.asked = false, true
	now := time.Now()
	switch {
	case !answered:
		a.until = now.Add(keepFailure << min(a.failures, mostDoubled))
		if !silent { // else it is not about this address
			a.failures++
		}
	case len(names) == 0:
		a.name, a.until, a.failures = "", now.Add(keepNoName), 0
	default:
		if !slices.Contains(names, a.name) { // servers give several in turn
			a.name = slices.Min(names)
		}
		a.until, a.failures = now.Add(keepName), 0
	}
}
