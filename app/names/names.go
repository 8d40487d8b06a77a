// Package names finds out what addresses are called, from the kernel's neighbour table, files and DNS, so that those who ask never
// wait for any of these.
//
// Nothing is done ahead: what was asked for is refreshed afterwards, for the next time, and while nobody asks nothing is read.
package names

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// refreshInterval is the least time between two looks at the neighbour table and the files.
const refreshInterval = 5 * time.Second

// Info is what is known of an address, empty where nothing is. Hostnames are printable UTF-8 of 253 bytes at most, without a dot at the
// end; MACs are like 02:00:00:00:00:01.
type Info struct{ Hostname, MAC string }

// Config says where to look.
type Config struct {
	LeaseFiles []string // of dnsmasq, Kea or ISC dhcpd, or like /etc/hosts; nil for the well-known ones that exist
	ReverseDNS bool     // ask the system's resolver about addresses that no file has a name for
	Limit      int      // how many addresses are remembered of each source
	Log        *slog.Logger
}

// Names is what addresses are called. Its methods are safe for concurrent use.
type Names struct {
	log     *slog.Logger
	wake    chan struct{} // somebody has asked since the last refresh
	known   atomic.Pointer[map[netip.Addr]Info]
	reverse *reverse // nil without

	// Of the refresh, of which there is one at a time.
	neighbours *neighbours
	hosts      *file
	leases     []*leaseFile
	expiry     time.Time // when the next lease ends that is part of known, zero if none does
}

// Open looks for the first time. A lease file that was named and is there, but cannot be read, is an error; the log tells of
// others, and of those that are not there.
func Open(c Config) (*Names, error) {
	most := max(c.Limit, leastEntries)
	n := &Names{
		log: c.Log, wake: make(chan struct{}, 1), neighbours: newNeighbours(listNeighbours, most, c.Log),
		hosts: &file{path: hostsFile, parse: parseHosts, optional: true, most: most},
	}
	n.known.Store(&map[netip.Addr]Info{})
	if c.ReverseDNS {
		n.reverse = newReverse(lookup, c.Limit, c.Log)
	}
	paths := c.LeaseFiles
	if paths == nil {
		paths = leaseFilesOf("/etc/openwrt_release")
	}
	for _, path := range paths {
		n.leases = append(n.leases, newLeaseFile(path, c.LeaseFiles == nil, most))
	}
	n.refresh(time.Now())

	var refused []error
	for _, l := range n.leases {
		if err := l.main().err; c.LeaseFiles != nil && errors.Is(err, fs.ErrPermission) {
			refused = append(refused, err)
		}
	}
	if len(refused) > 0 {
		return nil, errors.Join(refused...)
	}
	n.logChanges()
	return n, nil
}

// Of gives what is known of addr, at once, and has it looked for.
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

// Run looks for what is asked for, until ctx ends.
func (n *Names) Run(ctx context.Context) {
	var both sync.WaitGroup
	if n.reverse != nil {
		both.Go(func() { n.reverse.run(ctx) })
	}
	both.Go(func() { n.keepUp(ctx) })
	both.Wait()
}

// keepUp refreshes after somebody has asked, but not too often.
func (n *Names) keepUp(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.wake:
		}
		// On a network file system that hangs, a read takes for ever: that must not keep the program from its end.
		done := make(chan struct{})
		go func() {
			defer close(done)
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

// refresh looks at everything but DNS.
func (n *Names) refresh(now time.Time) {
	changed := n.neighbours.refresh(now)
	changed = n.hosts.refresh(now) || changed
	for _, l := range n.leases {
		changed = l.refresh(now) || changed
	}
	if changed || !n.expiry.IsZero() && !now.Before(n.expiry) {
		n.merge(now)
	}
}

// merge makes known of what the sources have: /etc/hosts before leases, the neighbour table before leases, and of leases those
// of the file that was named first.
func (n *Names) merge(now time.Time) {
	known := make(map[netip.Addr]Info, len(*n.known.Load()))
	for addr, k := range n.neighbours.kept {
		known[addr] = Info{MAC: k.mac}
	}
	for addr, e := range n.hosts.found {
		known[addr] = Info{e.hostname, known[addr].MAC}
	}
	n.expiry = time.Time{}
	for _, l := range n.leases {
		for addr, e := range l.all() {
			if !e.expires.IsZero() {
				if !now.Before(e.expires) {
					continue
				}
				if n.expiry.IsZero() || e.expires.Before(n.expiry) {
					n.expiry = e.expires
				}
			}
			info := known[addr]
			if info.Hostname == "" {
				info.Hostname = e.hostname
			}
			if info.MAC == "" {
				info.MAC = e.mac
			}
			if info != (Info{}) {
				known[addr] = info
			}
		}
	}
	n.known.Store(&known)
}

// logChanges logs what has become of the sources, each change once.
func (n *Names) logChanges() {
	n.neighbours.logChanges()
	n.hosts.logChanges(n.log)
	var refused []string
	for _, l := range n.leases {
		for _, f := range l.files {
			if f.journal && l.main().err != nil {
				continue // which says enough
			}
			if f.optional && f.news() && errors.Is(f.err, fs.ErrPermission) {
				refused = append(refused, f.path) // all in one line
				f.logged = f.err.Error()
			}
			f.logChanges(n.log)
		}
	}
	if len(refused) > 0 {
		n.log.Warn("lease files cannot be read, and give no names (see --user and --lease-files)", "files", refused, "error", fs.ErrPermission)
	}
}

// sleep waits for so long, and tells whether ctx has not ended.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
