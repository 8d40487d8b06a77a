// Package names looks up hostnames and MAC addresses in the kernel's neighbour table, in files and in DNS. Callers never wait for these.
//
// A question is answered with what is known, and starts a refresh for the next question. Without questions, nothing is read.
package names

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// refreshInterval is the least time between two looks at the neighbour table and the files.
const refreshInterval = 5 * time.Second

// Info is what is known of an address; an unknown part is empty. Hostnames are printable UTF-8 of at most 253 bytes, without a dot at the
// end. MACs are like 02:00:00:00:00:01.
type Info struct{ Hostname, MAC string }

// Config says where to look up names.
type Config struct {
	LeaseFiles []string // of dnsmasq, Kea or ISC dhcpd, or in the format of /etc/hosts; nil: those that exist of the default paths
	ReverseDNS bool     // ask this machine's resolver about addresses without a hostname in a file
	Limit      int      // how many addresses of each source are remembered
	Log        *slog.Logger
}

// Names knows names of addresses. Its methods are safe for concurrent use.
type Names struct {
	log     *slog.Logger
	wake    chan struct{} // somebody has asked since the last refresh
	known   atomic.Pointer[map[netip.Addr]Info]
	reverse *reverse // nil without reverse DNS

	mu sync.Mutex // guards what follows

	neighbours *neighbours
	files      []*file   // those whose names win come first
	expiry     time.Time // when the next lease in known ends; zero if none does
}

// Open reads all sources but DNS. If a lease file in Config.LeaseFiles exists and may not be read, that is an error. The log has all other
// problems with files.
func Open(c Config) (*Names, error) {
	limit := max(c.Limit, minEntries)
	n := &Names{
		log: c.Log, wake: make(chan struct{}, 1), neighbours: newNeighbours(listNeighbours, limit),
		files: []*file{{path: "/etc/hosts", parse: parseHosts, optional: true, limit: limit}},
	}
	n.known.Store(&map[netip.Addr]Info{})
	if c.ReverseDNS {
		n.reverse = newReverse(lookupBy(new(net.Dialer).DialContext), c.Limit, c.Log)
	}
	paths := c.LeaseFiles
	if paths == nil {
		paths = leaseFilesOf("/etc/openwrt_release")
	}
	for _, path := range paths {
		n.files = append(n.files, leaseFile(path, c.LeaseFiles == nil, limit)...)
	}
	n.refresh(time.Now())
	if err := n.wrong(func(err error) bool { return errors.Is(err, fs.ErrPermission) }); err != nil {
		return nil, err
	}
	n.logChanges()
	return n, nil
}

// wrong returns the errors of lease files in Config.LeaseFiles that are among some.
func (n *Names) wrong(among func(error) bool) error {
	var errs []error
	for _, f := range n.files {
		if !f.optional && f.err != nil && among(f.err) {
			errs = append(errs, f.err)
		}
	}
	return errors.Join(errs...)
}

// Reload reads all sources but DNS now. The error is of lease files in Config.LeaseFiles that exist and cannot be read: what they had before
// stays.
func (n *Names) Reload() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, f := range n.files {
		f.notBefore = time.Time{}
	}
	n.refresh(time.Now())
	n.logChanges()
	return n.wrong(func(err error) bool { return !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errMore) })
}

// Of returns at once what is known of addr, and starts a refresh.
func (n *Names) Of(addr netip.Addr) Info {
	select {
	case n.wake <- struct{}{}:
	default:
	}
	info := (*n.known.Load())[addr]
	if info.Hostname == "" && n.reverse != nil {
		info.Hostname = n.reverse.name(addr)
	}
	return info
}

// Run looks up names that were asked for, until ctx ends. After a question it refreshes, at most once in refreshInterval.
func (n *Names) Run(ctx context.Context) {
	var lookups sync.WaitGroup
	defer lookups.Wait()
	if n.reverse != nil {
		lookups.Go(func() { n.reverse.run(ctx) })
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.wake:
		}
		// A read may hang on a network file system. That must not keep the program from ending.
		done := make(chan struct{})
		go func() {
			defer close(done)
			n.mu.Lock()
			defer n.mu.Unlock()
			n.refresh(time.Now())
			n.logChanges()
		}()
		select {
		case <-ctx.Done():
			return
		case <-done:
		}
		if !sleep(ctx, refreshInterval) {
			return
		}
	}
}

// refresh reads all sources but DNS. The caller holds mu, or is the only one.
func (n *Names) refresh(now time.Time) {
	changed := n.neighbours.refresh(now)
	for _, f := range n.files {
		changed = f.refresh(now) || changed
	}
	if changed || !n.expiry.IsZero() && !now.Before(n.expiry) {
		n.merge(now)
	}
}

// merge makes known from the sources. The neighbour table wins over files, and a file over those that come after it.
func (n *Names) merge(now time.Time) {
	known := make(map[netip.Addr]Info, len(*n.known.Load()))
	for addr, k := range n.neighbours.kept {
		known[addr] = Info{MAC: k.mac}
	}
	n.expiry = time.Time{}
	for _, f := range n.files {
		for addr, e := range f.found {
			if f.outdated(addr) {
				continue
			}
			if !e.expires.IsZero() {
				if !now.Before(e.expires) {
					continue
				}
				if n.expiry.IsZero() || e.expires.Before(n.expiry) {
					n.expiry = e.expires
				}
			}
			was := known[addr]
			if info := (Info{cmp.Or(was.Hostname, e.hostname), cmp.Or(was.MAC, e.mac)}); info != (Info{}) {
				known[addr] = info
			}
		}
	}
	n.known.Store(&known)
}

// logChanges logs each change in what can be read once.
func (n *Names) logChanges() {
	if n.neighbours.news() && n.neighbours.err != nil {
		n.log.Warn("the kernel's neighbour table cannot be read, so MACs are missing", "error", n.neighbours.err)
	}
	var refused []string // for one line of the log
	for _, f := range n.files {
		switch {
		case len(f.newer) > 0 && f.newer[0].err != nil: // which the log has
		case !f.news():
		case f.optional && errors.Is(f.err, fs.ErrPermission):
			refused = append(refused, f.path)
		case f.err == nil && f.info == nil: // it is gone, and need not exist
		case f.err == nil:
			n.log.Info("a file can be read now", "file", f.path)
		case errors.Is(f.err, fs.ErrNotExist):
			n.log.Warn("a lease file is not there (yet)", "file", f.path)
		case errors.Is(f.err, errMore):
			n.log.Warn(f.err.Error(), "file", f.path, "addresses", f.limit)
		default:
			n.log.Warn("a file gives no names", "error", f.err)
		}
	}
	if len(refused) > 0 {
		n.log.Warn("files cannot be read, and give no names (see --user and --lease-files)", "files", refused, "error", fs.ErrPermission)
	}
}

// sleep waits for d. It returns false if ctx ends before.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
