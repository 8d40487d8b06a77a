package names

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"time"
)

// Bounds of files.
const (
	mostBytes    = 64 << 20
	leastEntries = 1 << 16 // are kept of each source but DNS, should the limit be lower: who is wanted may come last
)

// perMiB is for how long a file is left alone once it was read: one of a large server changes all the time.
const perMiB = time.Second

// settled is how old a change must be for a file's time to tell that there was none since: times have the granularity of the
// kernel's clock, or of the file system.
const settled = 2 * time.Second

// hostsFile is where hosts(5) is.
const hostsFile = "/etc/hosts"

// wellKnownLeaseFiles are where servers keep their leases unless told otherwise.
var wellKnownLeaseFiles = []string{
	"/var/lib/misc/dnsmasq.leases",    // dnsmasq
	"/var/lib/dnsmasq/dnsmasq.leases", // of Fedora and its kin
	"/etc/pihole/dhcp.leases",         // of Pi-hole
	"/var/lib/kea/kea-leases4.csv",    // Kea
	"/var/lib/kea/kea-leases6.csv",
	"/var/lib/dhcp/dhcpd.leases",  // ISC's dhcpd of Debian
	"/var/lib/dhcpd/dhcpd.leases", // of Fedora and its kin
}

// leaseFilesOf gives wellKnownLeaseFiles, and those of OpenWrt where its release file is. They are in /tmp: elsewhere any user could
// put them there, and call others what he likes.
func leaseFilesOf(openWrtRelease string) []string {
	if _, err := os.Stat(openWrtRelease); err != nil {
		return wellKnownLeaseFiles
	}
	return append(slices.Clip(wellKnownLeaseFiles),
		"/tmp/dhcp.leases",  // dnsmasq
		"/tmp/hosts/odhcpd", // odhcpd, like /etc/hosts
	)
}

// file is a file that is read again when it has changed.
//
// It is watched by asking for its time, size and inode now and then: inotify does not see what another machine writes to a network
// file system, nor that a single file mounted into a container was replaced outside, and it has to follow folders that are made later
// and files that are renamed into place.
type file struct {
	path     string
	parse    parser // nil: as its content says
	optional bool   // nobody has named it: it need not be there
	journal  bool   // part of one: only Kea's are
	most     int

	found  map[netip.Addr]entry
	more   bool // than most
	err    error
	logged string // of err, in the log

	info      os.FileInfo // as of the last read; nil if there was none
	readAt    time.Time
	notBefore time.Time // is it looked at again
}

var errFormat = errors.New("this is no lease file of dnsmasq, Kea or ISC dhcpd, nor like /etc/hosts")

// refresh reads the file if it may have changed, and tells whether that has been done.
func (f *file) refresh(now time.Time) bool {
	if now.Before(f.notBefore) {
		return false
	}
	info, err := os.Stat(f.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		had := f.found != nil
		f.found, f.info, f.err = nil, nil, err
		if f.optional {
			f.err = nil
		}
		return had
	case err != nil:
		f.err = err // and what it had is kept
		return false
	case f.info != nil && os.SameFile(info, f.info) && info.ModTime().Equal(f.info.ModTime()) && info.Size() == f.info.Size() &&
		f.readAt.Sub(info.ModTime()) > settled:
		return false
	}
	found, more, err := f.read()
	f.notBefore = now.Add(perMiB * time.Duration(min(info.Size(), mostBytes)>>20)) // of which no more is read
	if f.err = err; err != nil {
		f.info = nil // so that it is tried again
		return false
	}
	f.found, f.more, f.info, f.readAt = found, more, info, now
	return true
}

func (f *file) read() (found map[netip.Addr]entry, more bool, err error) {
	// Without O_NONBLOCK, to open a pipe may take for ever, and where there is no OpenWrt everybody may make one in /tmp.
	in, err := os.OpenFile(f.path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, false, err
	}
	defer in.Close()
	if info, err := in.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, false, errors.Join(fmt.Errorf("%s is not a regular file", f.path), err)
	}
	content, err := io.ReadAll(io.LimitReader(in, mostBytes+1))
	if err != nil {
		return nil, false, err
	}
	if len(content) > mostBytes {
		return nil, false, fmt.Errorf("%s is larger than %d MiB", f.path, mostBytes>>20)
	}
	parse := f.parse
	if parse == nil {
		kea := false
		if parse, kea = format(content); f.journal && !kea {
			return nil, false, nil
		}
	}
	if parse == nil {
		return nil, false, fmt.Errorf("%s: %w", f.path, errFormat)
	}
	found, more = gather(parse(content), f.most)
	return found, more, nil
}

// format gives the parser for a content, nil if there is none. It is told by the first line that is neither blank nor a comment.
func format(content []byte) (parse parser, kea bool) {
	for line := range bytes.Lines(content) {
		line = bytes.TrimSpace(line)
		switch {
		case len(line) == 0:
			continue
		case isKea(line):
			return parseKea, true
		case isDhcpd(line):
			return parseDhcpd, false
		case line[0] == '#':
			continue
		case isDnsmasq(line):
			return parseDnsmasq, false
		}
		if _, ok := address(bytes.Fields(line)[0]); ok {
			return parseHosts, false
		}
		return nil, false
	}
	return parseHosts, false // nothing yet
}

// news tells whether there is something that the log does not have.
func (f *file) news() bool { return f.state() != f.logged }

func (f *file) state() string {
	switch {
	case f.err != nil:
		return f.err.Error()
	case f.more:
		return "more"
	}
	return ""
}

// logChanges logs what has changed about whether the file can be read.
func (f *file) logChanges(log *slog.Logger) {
	if !f.news() {
		return
	}
	switch {
	case errors.Is(f.err, fs.ErrNotExist):
		log.Warn("a lease file is not there (yet)", "file", f.path)
	case f.err != nil:
		log.Warn("a file gives no names", "error", f.err)
	case f.more:
		log.Warn("a file has more addresses than are kept (see --max-ips)", "file", f.path, "addresses", f.most)
	default:
		log.Info("a file can be read now", "file", f.path)
	}
	f.logged = f.state()
}

// leaseFile is a lease file with what belongs to it. Kea cleans its journal up by moving it to FILE.1, of which and FILE.2, the result
// of the time before, it makes FILE.completed, and renames that to FILE.2 in the end; FILE has only what was written since
// (kea-lfc(8)).
type leaseFile struct{ files [4]*file } // the oldest first

func newLeaseFile(path string, optional bool, most int) *leaseFile {
	return &leaseFile{[4]*file{
		{path: path + ".2", optional: true, journal: true, most: most},
		{path: path + ".1", optional: true, journal: true, most: most},
		{path: path + ".completed", optional: true, journal: true, most: most},
		{path: path, optional: optional, most: most},
	}}
}

// main is the file itself.
func (l *leaseFile) main() *file { return l.files[3] }

func (l *leaseFile) refresh(now time.Time) (changed bool) {
	for _, f := range l.files {
		changed = f.refresh(now) || changed
	}
	return changed
}

// all gives the last that there is of each address.
func (l *leaseFile) all() iter.Seq2[netip.Addr, entry] {
	if len(l.files[0].found)+len(l.files[1].found)+len(l.files[2].found) == 0 {
		return maps.All(l.main().found)
	}
	all := map[netip.Addr]entry{}
	for _, f := range l.files {
		maps.Copy(all, f.found)
	}
	return maps.All(all)
}
