// Package names looks up hostnames and MAC addresses in the kernel's neighbour table, in files, in DNS and by multicast DNS. Callers never
// wait for these.
//
// A question is answered with what is known, and starts a refresh for the next question. Without questions, nothing is read.
package names

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
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
	LeaseFiles     []string // of dnsmasq, Kea, ISC dhcpd or systemd-networkd, or in the format of /etc/hosts; also globs; nil: the default paths
	LeaseFilesFrom string   // what LeaseFiles is called in errors
	NamesFile      string   // has names that win over all others; empty: none
	NamesFileFrom  string   // what NamesFile is called in errors

	ReverseDNS     bool // ask this machine's resolver about addresses without a hostname in a file
	ReverseDNSRate int  // questions a minute
	MDNS           bool // ask the hosts themselves that are on-link, and that nobody else has a name for

	Limit int // how many addresses of each source are remembered
	Log   *slog.Logger
}

// Names knows names of addresses. Its methods are safe for concurrent use.
type Names struct {
	log     *slog.Logger
	wake    chan struct{} // somebody has asked since the last refresh
	known   atomic.Pointer[view]
	reverse *reverse // nil without reverse DNS
	mdns    *mdns    // nil without multicast DNS

	mu sync.Mutex // guards what follows

	neighbours *neighbours
	given      *givenFile // nil without
	places     []*place   // of files; those whose names win come first
	expiry     time.Time  // when the next lease in known ends; zero if none does
	answers    uint64     // the changes of what DNS says that are in known
	config     Config
}

// view is what the sources said at the last refresh. DNS may have names that are not here.
type view struct {
	hosts map[netip.Addr]Info
	ofMAC map[netip.Addr]string // of addresses without a name: that of the other addresses of the MAC
	given *given
}

// Open reads all sources but DNS. If a file in Config.LeaseFiles exists and may not be read, or anything is wrong with Config.NamesFile,
// that is an error. The log has all other problems with files.
func Open(c Config) (*Names, error) {
	limit := max(c.Limit, minEntries)
	n := &Names{
		log: c.Log, wake: make(chan struct{}, 1), neighbours: newNeighbours(listNeighbours, limit),
		places: []*place{{files: []*file{{path: "/etc/hosts", parse: parseHosts, optional: true, limit: limit}}}},
	}
	n.known.Store(&view{})
	if c.ReverseDNS {
		n.reverse = newReverse(c.ReverseDNSRate, c.Limit, c.Log)
		n.reverse.lookup = lookupBy(new(net.Dialer).DialContext, n.reverse.limiter)
	}
	if c.MDNS {
		n.mdns = newMDNS(listLinks, c.Limit, c.Log)
	}
	if c.NamesFile != "" {
		n.given = &givenFile{file: file{path: c.NamesFile}}
	}
	paths := c.LeaseFiles
	if paths == nil {
		paths = leaseFilesOf("/etc/openwrt_release")
	}
	for _, path := range paths {
		n.places = append(n.places, newPlace(path, c.LeaseFiles == nil, limit))
	}
	n.config = c
	n.refresh(time.Now())
	if err := n.wrong(func(err error) bool { return errors.Is(err, fs.ErrPermission) }); err != nil {
		return nil, err
	}
	n.logChanges()
	return n, nil
}

// wrong returns the errors of lease files in Config.LeaseFiles that are among some, and that of Config.NamesFile.
func (n *Names) wrong(among func(error) bool) error {
	var errs []error
	for f := range n.files() {
		if !f.optional && f.err != nil && among(f.err) {
			errs = append(errs, f.err)
		}
	}
	err := errors.Join(errs...)
	if err != nil {
		err = fmt.Errorf("%s %q: %w", n.config.LeaseFilesFrom, strings.Join(n.config.LeaseFiles, ","), err)
	}
	if n.given != nil && n.given.err != nil {
		err = errors.Join(err, fmt.Errorf("%s %q: %w", n.config.NamesFileFrom, n.config.NamesFile, n.given.err))
	}
	return err
}

// files yields those whose names win first.
func (n *Names) files() iter.Seq[*file] {
	return func(yield func(*file) bool) {
		for _, p := range n.places {
			for _, f := range p.files {
				if !yield(f) {
					return
				}
			}
		}
	}
}

// Reload reads all sources but DNS now. The error is of lease files in Config.LeaseFiles that exist and cannot be read, and of
// Config.NamesFile: what they had before stays.
func (n *Names) Reload() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for f := range n.files() {
		f.notBefore = time.Time{}
	}
	if n.given != nil {
		n.given.notBefore = time.Time{}
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
	known := n.known.Load()
	info, merged := known.hosts[addr]
	if info.Hostname != "" {
		return info
	}
	if !merged && known.given != nil {
		info.Hostname = cmp.Or(known.given.ofHost(addr, ""), known.given.ofPrefix(addr))
	}
	asked := true
	if info.Hostname == "" && n.reverse != nil {
		info.Hostname, asked = n.reverse.name(addr)
	}
	if info.Hostname == "" && (n.mdns != nil || len(known.ofMAC) > 0) {
		ofMAC := known.ofMAC[addr]
		info.Hostname = cmp.Or(n.mdns.name(addr, asked && ofMAC == ""), ofMAC)
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
	if n.mdns != nil {
		lookups.Go(func() { n.mdns.answers.run(ctx) })
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
	for _, addr := range n.neighbours.moved {
		n.reverse.renew(addr)
		if n.mdns != nil {
			n.mdns.answers.renew(addr)
		}
	}
	changed = n.given.refresh(now) || changed
	for _, p := range n.places {
		changed = p.refresh(now) || changed
	}
	if n.mdns != nil {
		n.mdns.refresh()
	}
	answers := n.reverse.changes()
	if n.mdns != nil {
		answers += n.mdns.answers.changes()
	}
	if changed || answers != n.answers || !n.expiry.IsZero() && !now.Before(n.expiry) {
		n.answers = answers
		n.merge(now)
	}
}

// merge makes known from the sources. The neighbour table wins over files, and a file over those that come after it.
func (n *Names) merge(now time.Time) {
	hosts := make(map[netip.Addr]Info, len(n.known.Load().hosts))
	for addr, k := range n.neighbours.kept {
		hosts[addr] = Info{MAC: k.mac}
	}
	n.expiry = time.Time{}
	proxies := map[string]bool{}      // MACs of those that answer for others
	behind := map[netip.Addr]string{} // the MACs of these others
	for f := range n.files() {
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
			was := hosts[addr]
			// A lease of DHCPv6 may have the MAC that the client made its DUID of, which may be that of another interface (RFC 8415, 11).
			if addr.Is4() && e.mac != "" && was.MAC != "" && e.mac != was.MAC {
				proxies[was.MAC] = true
				if _, neighbour := n.neighbours.kept[addr]; neighbour { // else it is that of the better file
					behind[addr] = cmp.Or(behind[addr], e.mac)
				}
			}
			if info := (Info{cmp.Or(was.Hostname, e.hostname), cmp.Or(was.MAC, e.mac)}); info != (Info{}) {
				hosts[addr] = info
			}
		}
	}
	known := &view{hosts: hosts}
	if n.given != nil {
		known.given = n.given.given
	}
	known.ofMAC = n.share(hosts, known.given, proxies)
	if known.given != nil {
		for addr, info := range hosts {
			if name := cmp.Or(known.given.ofHost(addr, cmp.Or(behind[addr], info.MAC)), known.given.ofPrefix(addr)); name != "" {
				hosts[addr] = Info{name, info.MAC}
			}
		}
	}
	n.known.Store(known)
}

// maxOfMAC is how many addresses a MAC may have for a name to be that of all. A host has some for each prefix of IPv6. A router that answers
// for others (proxy ARP) has more.
const maxOfMAC = 32

// share returns the names that addresses without one have because other addresses of their MACs have them. The best source decides that
// has a name for an address of the MAC. If it has several that do not agree, there is none. A proxy gives its MAC to others: the lease of a
// host behind a repeater has the host's MAC, and the neighbour table that of the repeater.
func (n *Names) share(hosts map[netip.Addr]Info, given *given, proxies map[string]bool) map[netip.Addr]string {
	addresses := map[string]int{} // of MACs
	for _, info := range hosts {
		addresses[info.MAC]++
	}
	names := map[string]string{} // of MACs; empty: there is none for all
	for mac, many := range addresses {
		if mac == "" || many > maxOfMAC || proxies[mac] {
			names[mac] = ""
		}
	}
	for _, of := range []func(netip.Addr, Info) string{
		func(addr netip.Addr, info Info) string { return given.ofHost(addr, info.MAC) },
		func(_ netip.Addr, info Info) string { return info.Hostname },
		func(addr netip.Addr, _ Info) string { return n.reverse.known(addr) },
		func(addr netip.Addr, _ Info) string { return n.mdns.known(addr) },
	} {
		found := map[string][]string{}
		for addr, info := range hosts {
			if _, better := names[info.MAC]; better || n.neighbours.several[addr] {
				continue
			}
			if name := of(addr, info); name != "" {
				found[info.MAC] = append(found[info.MAC], name)
			}
		}
		for mac, all := range found {
			names[mac] = common(all)
		}
	}
	shared := map[netip.Addr]string{}
	for addr, info := range hosts {
		if name := names[info.MAC]; info.Hostname == "" && name != "" && !n.neighbours.several[addr] {
			shared[addr] = name
		}
	}
	return shared
}

// common returns the shortest of several names if the others are it, or begin with it and a dot: DHCP servers write laptop for IPv4 and
// laptop.lan for IPv6. It returns "" if they do not agree.
func common(names []string) string {
	shortest := slices.MinFunc(names, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) })
	for _, name := range names {
		if !strings.EqualFold(name[:len(shortest)], shortest) || len(name) > len(shortest) && name[len(shortest)] != '.' {
			return ""
		}
	}
	return shortest
}

// logChanges logs each change in what can be read once.
func (n *Names) logChanges() {
	if n.neighbours.news() && n.neighbours.err != nil {
		n.log.Warn("the kernel's neighbour table cannot be read, so MACs are missing", "error", n.neighbours.err)
	}
	if n.mdns != nil && n.mdns.news() && n.mdns.err != nil {
		n.log.Warn("what is on-link cannot be listed, so multicast DNS is not asked about new links", "error", n.mdns.err)
	}
	if n.given != nil && n.given.news() {
		if n.given.err != nil {
			n.log.Warn("the names file cannot be read: what was read before stays", "error", n.given.err)
		} else {
			n.log.Info("the names file can be read now", "file", n.given.path)
		}
	}
	var refused []string // for one line of the log
	for f := range n.files() {
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
