package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	_ "time/tzdata" // for TZ where the system has no zones, as in a container or on OpenWrt
	"unicode"

	"promflow/app/history"
	"promflow/app/privilege"
	"promflow/capture"
	"promflow/capture/labels"
	"promflow/capture/subnets"
	"promflow/telemetry"
)

// kept is what is kept of history.
type kept struct {
	dir           string   // empty: nothing is kept
	open          *os.Root // dir, if it can be opened
	failed        error    // why it could not be made or opened, before privileges were given up
	made          bool     // promflow has made it
	interval      time.Duration
	retention     [history.Month + 1]time.Duration
	size          int64
	monthStartsOn int
}

// checkDataDir fails if the directory of the history can be none, or another process has the history open. It changes nothing, as the start may
// still fail.
func (c *config) checkDataDir() error {
	if c.kept.dir == "" {
		return nil
	}
	dir, err := history.ExistingDir(c.kept.dir)
	if err != nil {
		if errors.Is(err, fs.ErrPermission) || !history.Lasts(err) { // the user that promflow becomes may enter it
			return nil
		}
		return c.dataDirError(err)
	}
	defer dir.Close()
	return c.dataDirError(history.InUse(dir))
}

// makeDataDir makes the directory of the history, and gives it to the user that promflow becomes. Where others than root choose what is there,
// that user makes it himself. Call it when nothing else can fail that takes privileges. What is wrong, useDataDir says.
func (c *config) makeDataDir() {
	if c.kept.dir == "" {
		return
	}
	becomes := privilege.Becomes(c.user)
	if becomes && !history.IsRoots(c.kept.dir) {
		return
	}
	_, err := os.Lstat(c.kept.dir)
	if c.kept.open, c.kept.failed = history.OpenDir(c.kept.dir); c.kept.open == nil {
		return
	}
	c.kept.made = errors.Is(err, fs.ErrNotExist)
	if becomes {
		_ = history.Give(c.kept.open, c.user.UID, c.user.GID)
	}
}

// removeDataDir removes the directory again that makeDataDir has made, if the start fails.
func (c *config) removeDataDir() {
	if c.kept.made {
		_ = os.Remove(c.kept.dir) // if it is empty
	}
}

// useDataDir fails if promflow, with the privileges that are left, cannot have a history in the directory, and that lasts. What may pass, package
// history says, and tries again.
func (c *config) useDataDir() error {
	if c.kept.dir == "" {
		return nil
	}
	err := c.kept.failed
	if c.kept.open == nil && (err == nil || errors.Is(err, fs.ErrPermission)) { // root without all capabilities may not enter what the user may
		c.kept.open, err = history.OpenDir(c.kept.dir)
	}
	if err == nil {
		err = history.Usable(c.kept.open)
	}
	if !history.Lasts(err) {
		return nil
	}
	if uid, gid := os.Geteuid(), os.Getegid(); errors.Is(err, fs.ErrPermission) && uid >= 0 {
		paths, first := quoted(c.kept.dir), ""
		if denied := (*history.AccessError)(nil); errors.As(err, &denied) {
			paths = quoted(denied.Paths...)
		} else if _, err := os.Stat(c.kept.dir); errors.Is(err, fs.ErrNotExist) {
			first = "mkdir -p " + paths + " && "
		}
		if hasOthersFiles(c.kept.dir) {
			return c.dataDirError(fmt.Errorf("%w: promflow runs as user %d and group %d (see --user), and there are other files: name a directory of its own",
				err, uid, gid))
		}
		err = fmt.Errorf("%w: promflow runs as user %d and group %d (see --user), and may use it after %schown %d:%d %s && chmod u+rwX %s",
			err, uid, gid, first, uid, gid, paths, paths)
	}
	return c.dataDirError(err)
}

// quoted writes paths for a shell.
func quoted(paths ...string) string {
	for i, path := range paths {
		if strings.ContainsFunc(path, func(r rune) bool {
			return !strings.ContainsRune("/._-+:,@%", r) && !unicode.IsLetter(r) && !unicode.IsDigit(r)
		}) {
			paths[i] = "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
		}
	}
	return strings.Join(paths, " ")
}

// hasOthersFiles tells whether a directory has others than those of a history, as far as this process may look.
func hasOthersFiles(dir string) bool {
	entries, _ := os.ReadDir(dir)
	return slices.ContainsFunc(entries, func(e fs.DirEntry) bool {
		return !strings.HasPrefix(e.Name(), "history.db") && e.Name() != "lost+found"
	})
}

// dataDirError adds the flag or variable to an error, if any, about the directory.
func (c *config) dataDirError(err error) error {
	if err != nil {
		err = fmt.Errorf("%s %q: %w", c.givenBy("data-dir"), c.kept.dir, err)
	}
	return err
}

// openHistory has a table go on from what is kept. It returns nil if nothing is. Call it before anything counts.
func (c *config) openHistory(table *capture.Table, monitored func() []telemetry.Subnet, names hostNames, source *telemetry.Source, log *slog.Logger) (*history.History, error) {
	if c.kept.dir == "" {
		return nil, nil
	}
	if warning := zoneWarning(os.Getenv("TZ"), time.Local.String()); warning != "" {
		log.Warn(warning)
	}
	n := networks{monitored: monitored}
	bits := func(addr netip.Addr) int { // of the prefix that it stands for
		if g := table.Grouping(); g != nil && addr.IsValid() {
			return g.Bits(addr)
		}
		return 0
	}
	h, err := history.Open(history.Config{
		Dir: c.kept.dir, Open: c.kept.open, Failed: c.kept.failed, Table: table, Interval: c.kept.interval, Retention: c.kept.retention, Size: c.kept.size,
		MonthStartsOn: c.kept.monthStartsOn, Log: log,
		Read: func() {
			n.update()
			_, _ = source.Produce(context.Background()) // the series of what is new begin
		},
		Info: func(addr netip.Addr) history.Info {
			info := history.Info{Network: n.of(addr)}
			if names.info != nil && bits(addr) == 0 {
				known := names.info(addr)
				info.Hostname, info.MAC = known.Hostname, known.MAC
			}
			return info
		},
		Began: func(s history.Series) [2]time.Time {
			return source.Began(s.Addr, bits(s.Addr), uint64(s.Labels), s.Entry)
		},
	})
	if err != nil {
		return nil, c.dataDirError(err)
	}
	if h.Failing() { // it has said so
		return h, nil
	}
	log.Info("history is kept", "directory", c.kept.dir, "zone", time.Now().Format("MST -07:00"))
	return h, nil
}

// zoneWarning says that TZ names no zone that Go knows, such as a rule of POSIX as in CET-1CEST,M3.5.0,M10.5.0/3: Go takes UTC then, and says
// nothing. local is the name of the zone that it has taken. The warning is empty if there is nothing to say.
func zoneWarning(tz, local string) string {
	if name := strings.TrimPrefix(tz, ":"); name == "" || name == "UTC" || local != "UTC" {
		return ""
	}
	return fmt.Sprintf("TZ %q is no known time zone: days and months are those of UTC", tz)
}

// restored returns what was restored of a host.
func restored(h *history.History) func(telemetry.Host) telemetry.Restored {
	return func(of telemetry.Host) telemetry.Restored {
		began, t := h.Restored(history.Series{Addr: of.Addr, Labels: labels.Values(of.Labels), Entry: of.Entry})
		return telemetry.Restored{
			Began: began, ReceiveBytes: t.ReceiveBytes, TransmitBytes: t.TransmitBytes, ReceivePackets: t.ReceivePackets, TransmitPackets: t.TransmitPackets,
		}
	}
}

// networks knows the networks of addresses. Its methods are safe for concurrent use.
type networks struct {
	monitored func() []telemetry.Subnet
	index     atomic.Pointer[networkIndex]
}

// networkIndex has the names of subnets.
type networkIndex struct {
	of    []telemetry.Subnet
	names subnets.Longest[string]
}

// update follows the subnets that are monitored.
func (n *networks) update() {
	now := n.monitored()
	if last := n.index.Load(); last != nil && len(last.of) == len(now) && (len(now) == 0 || &last.of[0] == &now[0]) {
		return
	}
	index := &networkIndex{of: now}
	for _, s := range now {
		if prefix, err := netip.ParsePrefix(s.Prefix); err == nil {
			index.names.Add(prefix, s.Network)
		}
	}
	n.index.Store(index)
}

func (n *networks) of(addr netip.Addr) (name string) {
	if index := n.index.Load(); index != nil {
		name, _ = index.names.Of(addr)
	}
	return name
}

// parseRetention parses how long periods are kept, as in 5m=2d,1h=35d. Others keep their default.
func parseRetention(s string) (all [history.Month + 1]time.Duration, err error) {
	for _, element := range elements(s) {
		name, text, _ := strings.Cut(element, "=")
		r, known := history.FiveMinutes, false
		for r <= history.Month && !known {
			if known = r.String() == strings.TrimSpace(name); !known {
				r++
			}
		}
		keep, err := parseDays(strings.TrimSpace(text))
		if !known || err != nil {
			return all, fmt.Errorf("%q: expected 5m, 1h, 1d or 1mo, and a time such as 2d or 36h, or 0 for ever, as in 5m=2d,1h=35d", element)
		}
		if all[r] = keep; keep == 0 {
			all[r] = -1
		}
	}
	return all, nil
}

// parseDays parses a number of days such as 35d, or a time such as 36h.
func parseDays(s string) (time.Duration, error) {
	if text, ok := strings.CutSuffix(s, "d"); ok {
		days, err := strconv.ParseUint(text, 10, 16)
		return time.Duration(days) * 24 * time.Hour, err
	}
	d, err := time.ParseDuration(s)
	if err == nil && d < 0 {
		err = strconv.ErrRange
	}
	return d, err
}

// parseSize parses a number of bytes, as in 256MiB.
func parseSize(s string) (int64, error) {
	s = strings.ToUpper(strings.TrimSpace(s))
	digits := strings.TrimRight(s, "BKMGTI ")
	units := map[string]int64{
		"": 1, "B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30, "TIB": 1 << 40,
		"KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12,
	}
	unit, known := units[strings.TrimSpace(s[len(digits):])]
	n, err := strconv.ParseInt(digits, 10, 64)
	if !known || err != nil || n > 1<<50/unit || n*unit < 1<<20 {
		return 0, errors.New("expected a size of at least 1MiB, such as 256MiB or 2GB")
	}
	return n * unit, nil
}
