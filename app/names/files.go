package names

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"slices"
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

// leaseFilesOf returns the default paths of DHCP servers. Those of OpenWrt are in /tmp: without OpenWrt's release file they are left out,
// because any user could create them, and choose the names of others.
func leaseFilesOf(openWrtRelease string) []string {
	paths := []string{
		"/var/lib/misc/dnsmasq.leases",    // dnsmasq
		"/var/lib/dnsmasq/dnsmasq.leases", // dnsmasq on Fedora
		"/etc/pihole/dhcp.leases",         // Pi-hole
		"/var/lib/kea/kea-leases4.csv",    // Kea
		"/var/lib/kea/kea-leases6.csv",
		"/var/lib/dhcp/dhcpd.leases",  // ISC dhcpd on Debian
		"/var/lib/dhcpd/dhcpd.leases", // ISC dhcpd on Fedora
	}
	if _, err := os.Stat(openWrtRelease); err == nil {
		paths = append(paths, "/tmp/dhcp.leases", "/tmp/hosts/odhcpd") // dnsmasq; odhcpd, in the format of /etc/hosts
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
	errFormat = errors.New("this is not a lease file of dnsmasq, Kea or ISC dhcpd, and not in the format of /etc/hosts")
	errMore   = errors.New("a file has more addresses than are kept (see --max-ips)")
)

// refresh reads the file if it may have changed, and tells whether found is new.
func (f *file) refresh(now time.Time) bool {
	if now.Before(f.notBefore) {
		return false
	}
	info, err := os.Stat(f.path)
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
	case f.info != nil && os.SameFile(info, f.info) && info.ModTime().Equal(f.info.ModTime()) && info.Size() == f.info.Size() &&
		f.readAt.Sub(info.ModTime()) > settled:
		return false
	}
	found, err := f.read()
	f.notBefore = now.Add(perMiB * time.Duration(min(info.Size(), maxBytes)>>20)) // read stops at maxBytes
	if f.err = err; found == nil {
		f.info = nil // so that it is tried again
		return false
	}
	f.found, f.info, f.readAt = found, info, now
	return true
}

// read returns nil and an error if nothing can be read. With errMore, the others were found.
func (f *file) read() (map[netip.Addr]entry, error) {
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
	parse := f.parse
	if parse == nil {
		if parse = format(content); parse == nil {
			return nil, fmt.Errorf("%s: %w", f.path, errFormat)
		}
	}
	return gather(parse(content), f.limit)
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
