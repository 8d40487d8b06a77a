package names

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	maxBytes = 64 << 20 // of a file

	// minEntries is how many addresses of a file or the neighbour table are kept even if Config.Limit is lower: the addresses on the
	// page may come last there.
	minEntries = 1 << 16
)

// perMiB is how long promflow waits after reading a file, for each MiB: the file of a large server changes all the time.
const perMiB = time.Second

// settled is how old the modification time of a file must be to show that nothing was written since: such times have the granularity of
// the kernel's clock or of the file system.
const settled = 2 * time.Second

// leaseFilesOf returns the default paths of DHCP servers, and globs of such. Those of OpenWrt are in /tmp: without OpenWrt's release file
// they are left out, because any user could create them, and choose the names of others.
func leaseFilesOf(openWrtRelease string) []string {
	paths := []string{
		"/var/lib/misc/dnsmasq.leases",    // dnsmasq
		"/var/lib/dnsmasq/dnsmasq.leases", // dnsmasq on Fedora
		"/etc/pihole/dhcp.leases",         // Pi-hole
		"/var/lib/kea/kea-leases4.csv",    // Kea
		"/var/lib/kea/kea-leases6.csv",
		"/var/lib/dhcp/dhcpd.leases",                   // ISC dhcpd on Debian
		"/var/lib/dhcpd/dhcpd.leases",                  // ISC dhcpd on Fedora
		"/var/lib/systemd/network/dhcp-server-lease/*", // systemd-networkd from 257 on, a file for each interface
		"/run/systemd/netif/dhcp-server-lease/*",       // the same with PersistLeases=runtime
	}
	if _, err := os.Stat(openWrtRelease); err == nil {
		// dnsmasq; odhcpd, in the format of /etc/hosts, and since 2025 with a file for each interface
		paths = append(paths, "/tmp/dhcp.leases", "/tmp/hosts/odhcpd", "/tmp/hosts/odhcpd.hosts.*")
	}
	return paths
}

// file is a file that is read again when it has changed.
//
// promflow polls its modification time, size and inode. inotify would miss what another machine writes to a network file system, and a
// single file mounted into a container that was replaced outside. It would also have to follow folders that are created later and files
// that are renamed into place.
type file struct {
	path     string
	parse    parser  // nil: the content tells
	optional bool    // nobody named it: it need not exist
	newer    []*file // parts of the same journal, the newest first
	limit    int     // of addresses

	found map[netip.Addr]entry
	reported

	info      os.FileInfo // as of the last read; nil if there was none
	readAt    time.Time
	notBefore time.Time // when to look at it again
}

// reported is an error of a source, which the log gets when it changes.
type reported struct {
	err    error
	logged error // err at the last call of news
}

// news tells whether the error has changed since the last call.
func (r *reported) news() bool {
	news := fmt.Sprint(r.err) != fmt.Sprint(r.logged)
	r.logged = r.err
	return news
}

var (
	errFormat = errors.New("this is not a lease file of dnsmasq, Kea, ISC dhcpd or systemd-networkd, and not in the format of /etc/hosts")
	errMore   = errors.New("a file has more addresses than are kept (see --max-ips)")
)

// refresh reads the file if it may have changed, and tells whether found is new.
func (f *file) refresh(now time.Time) bool {
	if now.Before(f.notBefore) {
		return false
	}
	info, err := f.look()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		had := f.found != nil
		f.found, f.info, f.err = nil, nil, nil
		if !f.optional {
			f.err = err
		}
		return had
	case err != nil:
		f.err = err // what was found before stays
		return false
	case info == nil:
		return false
	}
	found, err := f.read()
	if f.wasRead(now, info, found != nil); found == nil {
		f.err = err
		return false
	}
	f.found, f.err = found, err
	return true
}

// look returns what the file is now, or nil if it is as it was at the last read.
func (f *file) look() (os.FileInfo, error) {
	info, err := os.Stat(f.path)
	if err != nil || f.info != nil && os.SameFile(info, f.info) && info.ModTime().Equal(f.info.ModTime()) && info.Size() == f.info.Size() &&
		f.readAt.Sub(info.ModTime()) > settled {
		return nil, err
	}
	return info, nil
}

// wasRead notes a read, which is tried again if it was none.
func (f *file) wasRead(now time.Time, info os.FileInfo, ok bool) {
	f.notBefore = now.Add(perMiB * time.Duration(min(info.Size(), maxBytes)>>20)) // content stops at maxBytes
	if f.info, f.readAt = info, now; !ok {
		f.info = nil
	}
}

// read returns nil and an error if nothing can be read. With errMore, the others were found.
func (f *file) read() (map[netip.Addr]entry, error) {
	content, err := f.content()
	if err != nil {
		return nil, err
	}
	parse := f.parse
	if parse == nil {
		if parse = format(content); parse == nil {
			return nil, fmt.Errorf("%s: %w", f.path, errFormat)
		}
	}
	return gather(parse(content), f.limit)
}

func (f *file) content() ([]byte, error) {
	// Without O_NONBLOCK, opening a named pipe may block for ever.
	in, err := os.OpenFile(f.path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	if info, err := in.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(fmt.Errorf("%s is not a regular file", f.path), err)
	}
	content, err := io.ReadAll(io.LimitReader(in, maxBytes+1))
	if err != nil {
		return nil, err
	}
	if len(content) > maxBytes {
		return nil, fmt.Errorf("%s is larger than %d MiB", f.path, maxBytes>>20)
	}
	return content, nil
}

// format returns the parser for a content, nil if there is none. The first line decides that is neither blank nor a comment.
func format(content []byte) parser {
	for line := range bytes.Lines(content) {
		line = bytes.TrimSpace(line)
		switch {
		case len(line) == 0:
		case isKea(line):
			return parseKea
		case isDhcpd(line):
			return parseDhcpd
		case line[0] == '#':
		case line[0] == '{':
			if !isNetworkd(content) {
				return nil
			}
			return parseNetworkd
		case isDnsmasq(line):
			return parseDnsmasq
		case address(bytes.Fields(line)[0]).IsValid():
			return parseHosts
		default:
			return nil
		}
	}
	return parseHosts // nothing yet
}

// leaseFile returns a file with the older parts of its journal, the newest first. Kea cleans up its lease file by moving it to FILE.1.
// From that and FILE.2, the result of the last clean-up, it makes FILE.completed, and renames that to FILE.2 in the end. FILE has only
// what was written since (kea-lfc(8)).
func leaseFile(path string, optional bool, limit int) []*file {
	journal := []*file{{path: path, optional: optional, limit: limit}}
	for _, part := range []string{".completed", ".1", ".2"} {
		journal = append(journal, &file{path: path + part, parse: parseKea, optional: true, newer: journal, limit: limit})
	}
	return journal
}

// outdated tells whether a newer part of the journal has an entry for an address.
func (f *file) outdated(addr netip.Addr) bool {
	return slices.ContainsFunc(f.newer, func(newer *file) bool { _, has := newer.found[addr]; return has })
}

// maxFiles is how many files of a glob are read.
const maxFiles = 256

// place is where files with names are: a file with the parts of its journal, or a glob of files that come and go.
type place struct {
	glob     string // empty: files stay as they are
	optional bool   // nobody named it
	limit    int    // of addresses of each file
	files    []*file
}

// newPlace returns the place of lease files at a path or glob.
func newPlace(path string, optional bool, limit int) *place {
	if strings.ContainsAny(path, "*?[") {
		return &place{glob: path, optional: optional, limit: limit}
	}
	return &place{files: leaseFile(path, optional, limit)}
}

// refresh reads the files that may have changed, and tells whether one has.
func (p *place) refresh(now time.Time) bool {
	changed := p.glob != "" && p.find()
	for _, f := range p.files {
		changed = f.refresh(now) || changed
	}
	return changed
}

// find brings files up to date with the glob, and tells whether one is gone that had something. Hidden files do not match: DHCP servers
// write to such before they rename them.
func (p *place) find() (gone bool) {
	paths, _ := filepath.Glob(p.glob)
	paths = slices.DeleteFunc(paths, func(path string) bool { return filepath.Base(path)[0] == '.' })
	before := p.files
	p.files = nil
	for _, path := range paths[:min(len(paths), maxFiles)] {
		if i := slices.IndexFunc(before, func(f *file) bool { return f.path == path }); i >= 0 {
			p.files = append(p.files, before[i])
		} else {
			p.files = append(p.files, &file{path: path, optional: p.optional, limit: p.limit})
		}
	}
	return slices.ContainsFunc(before, func(f *file) bool { return f.found != nil && !slices.Contains(p.files, f) })
}
