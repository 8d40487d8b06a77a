// Package history keeps what addresses have moved beyond the end of the process: their totals, and volumes by period. All of it is in one
// file, which is a bbolt database.
//
// # Sums
//
// What an address has moved since the table was last read is added to the volume of each open period: one of five minutes, an hour, a day
// and a month. These volumes are written in the same transaction as the totals, so the growth of totals is the sum over periods, to the
// byte, whenever the process is killed. When a period ends its volumes are added to its value in the file, and the next period opens. If the
// clock is set, or its zone is changed, the period that was open is closed as the one that it was, and that of the new time is opened, or
// goes on. If an address gets another MAC, what it has moved in the open periods is handed over: it is added to their values in the file at once,
// with the MAC and the name of before.
//
// The table evicts addresses, and their totals are part of other then. So are their volumes in the periods that are open.
//
// While the file cannot be written, counting goes on, and periods that end stay in memory. A process that is killed then loses what it has
// counted since the last write, from totals and periods alike.
package history

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"

	"promflow/capture"
	"promflow/capture/labels"
)

// Config is the configuration of a history. Zero values of Interval, Retention, Size, Zone and Now stand for defaults.
type Config struct {
	Dir    string         // has the file; it is made if it does not exist
	Open   *os.Root       // Dir, if it is open already; Close closes it
	Failed error          // why it could not be opened before, for messages; may be nil
	Table  *capture.Table // nil reads a history that nobody writes meanwhile

	Read  func()                    // brings the table up to date; may be nil
	Info  func(netip.Addr) Info     // what is known of an address now; may be nil, must not block
	Began func(Series) [2]time.Time // when totals began to be received and transmitted, zero if that is not known yet; nil: at the write before

	Interval      time.Duration              // between writes; 60 s by default
	Retention     [resolutions]time.Duration // how long periods are kept; 0 is the default, below 0 is for ever
	Size          int64                      // bytes in use; 256 MiB by default
	MonthStartsOn int
	Zone          *time.Location // time.Local by default

	Log *slog.Logger     // may be nil
	Now func() time.Time // for tests
}

// Info is what is known of an address; empty where it is not.
type Info struct{ Hostname, MAC, Network string }

// later returns what is known of an address after it was i, and whether it may still be the same device. What is no longer known stays. If it is
// another device, it returns i.
func (i Info) later(now Info) (_ Info, same bool) {
	if i.MAC != "" && now.MAC != "" && i.MAC != now.MAC {
		return i, false
	}
	if i.MAC != "" && now.MAC == "" && i.Hostname != "" { // the name that is known now may be that of another device
		now.Hostname = ""
	}
	return Info{cmp.Or(now.Hostname, i.Hostname), cmp.Or(now.MAC, i.MAC), cmp.Or(now.Network, i.Network)}, true
}

// Series identifies totals of the table: those of an address, or of one of its series.
type Series struct {
	Addr   netip.Addr
	Labels labels.Values
	Entry  uint32
}

// DefaultInterval is the default time between writes.
const DefaultInterval = time.Minute

// DefaultSize is the default of how many bytes of the file may be in use.
const DefaultSize = 256 << 20

// DefaultRetention is how long the periods of a resolution are kept by default; 0 is for ever.
var DefaultRetention = [resolutions]time.Duration{FiveMinutes: 2 * day, Hour: 5 * 7 * day, Day: 396 * day}

const day = 24 * time.Hour

// History keeps totals and volumes. Its methods are safe for concurrent use.
type History struct {
	config   Config
	calendar Calendar
	path     string
	dir      *os.Root    // nil: it is not open
	file     fs.FileInfo // of the file that was opened last
	restored []restored  // in order; it is not changed

	failing   atomic.Bool
	lastWrite atomic.Int64 // in seconds since 1970
	damaged   atomic.Bool  // the file must be put aside

	mu       sync.Mutex
	db       *bbolt.DB                                    // nil while it cannot be opened
	transact func(*bbolt.DB, func(*bbolt.Tx) error) error // as bbolt does it
	readOnly bool                                         // it can only be read
	loaded   bool                                         // state and hosts are those of the file, or later
	closed   bool
	state    state
	filed    state  // that of the file
	hosts    []host // in the order of the table's
	other    host
	gone     [][]byte          // keys of records that are no longer in the table
	late     []latePeriod      // which the next write adds to the file
	search   *search           // nil: names are not searched for
	numbers  map[uint64]uint32 // of each who in the file, by its hash; nil: not known

	last, steady time.Time // when the table was last read, and when the clock was last set
}

// Open opens the history in a directory, and has the table go on from its totals. It fails if another process has the history open. If the
// file cannot be opened or written, it says so in the log, and each write tries again. A damaged file is put aside.
func Open(c Config) (*History, error) {
	if c.Interval <= 0 {
		c.Interval = DefaultInterval
	}
	if c.Size <= 0 {
		c.Size = DefaultSize
	}
	if c.Zone == nil {
		c.Zone = time.Local
	}
	clock := c.Now
	if clock == nil {
		clock = time.Now
	}
	c.Now = func() time.Time { return clock().Round(0) } // the monotonic clock would hide that the clock was set
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	for r := range c.Retention {
		if c.Retention[r] == 0 {
			c.Retention[r] = DefaultRetention[r]
		}
	}
	h := &History{config: c, calendar: Calendar{c.Zone, c.MonthStartsOn}, path: filepath.Join(c.Dir, fileName), dir: c.Open, transact: (*bbolt.DB).Update}
	h.last = h.config.Now()
	h.steady = h.last
	var records []saved
	var err error
	if c.Table == nil {
		if records, err = h.openReadOnly(); err != nil {
			return nil, err
		}
		h.take(records)
		return h, nil
	}
	if records, err = h.openFile(); errors.Is(err, ErrInUse) {
		return nil, err
	}
	h.restore(records)
	if err == nil {
		err = h.catchUp(h.last)
	}
	if err != nil {
		h.fails(err)
		h.keepEnded(h.last)
	} else {
		h.lastWrite.Store(h.state.saved)
	}
	return h, nil
}

// look is how often Run looks at the clock: a timer stands still while the system is suspended, and does not know that the clock was set.
const look = 5 * time.Second

// Run writes in each interval, when a period of five minutes ends, and when the clock was set back, until ctx ends. Close does the last write.
//
// A write is done when the interval after the last reading ends: it begins earlier by twice the time that the last one took.
func (h *History) Run(ctx context.Context) error {
	read, took := h.config.Now(), time.Second/2
	for {
		until := read.Add(max(h.config.Interval-2*took, h.config.Interval/2))
		if end := h.calendar.End(FiveMinutes, read).Add(time.Millisecond); end.Before(until) {
			until = end
		}
		now := h.config.Now()
		if rest := now.Add(took); took > h.config.Interval/4 && until.Before(rest) { // a disk so slow has others to serve
			until = rest
		}
		for last := read; now.Before(until) && !now.Before(last); now = h.config.Now() {
			last = now
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(min(look, until.Sub(now))):
			}
		}
		if ctx.Err() != nil {
			return nil
		}
		read = now
		began := time.Now()
		h.Write()
		took = time.Since(began)
	}
}

// Write reads the table and writes what has changed, in one transaction. Failures are logged.
func (h *History) Write() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || h.config.Table == nil {
		return
	}
	now := h.config.Now()
	h.observe(now)
	if err := h.write(now); err != nil {
		h.fails(err)
		h.keepEnded(now)
		return
	}
	h.lastWrite.Store(now.Unix())
	if h.failing.Swap(false) {
		h.config.Log.Info("history is written again", "file", h.path)
	}
}

// fails remembers that the history cannot be written, and says so once.
func (h *History) fails(err error) {
	if !h.failing.Swap(true) {
		h.config.Log.Error("history cannot be written: counting goes on, and each interval tries again", "file", h.path, "error", err)
	}
}

// Failing tells whether the last write failed.
func (h *History) Failing() bool { return h.failing.Load() }

// LastWrite returns when a write last succeeded, also that of an earlier process. It is zero if none has.
func (h *History) LastWrite() time.Time {
	if s := h.lastWrite.Load(); s != 0 {
		return time.Unix(s, 0)
	}
	return time.Time{}
}

// Restored returns totals as they were restored, and when they began to be received and transmitted. Both are zero for others.
func (h *History) Restored(s Series) (began [2]time.Time, totals capture.Totals) {
	at, ok := slices.BinarySearchFunc(h.restored, s, restored.compare)
	if !ok {
		return began, totals
	}
	for i, ms := range h.restored[at].began {
		if ms != 0 {
			began[i] = time.UnixMilli(ms)
		}
	}
	return began, h.restored[at].Totals
}

// Close writes the last counts, and closes the file. The table must still be readable.
func (h *History) Close() error {
	h.mu.Lock()
	for i := range h.hosts { // names may have become known since they last moved something
		if at := &h.hosts[i]; !h.closed && at.movedIn(Month, &h.state.open[Month]) != (volume{}) {
			h.learn(at)
		}
	}
	h.mu.Unlock()
	h.Write()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil
	}
	h.closed = true
	err := h.closeFile()
	if h.dir != nil {
		err = errors.Join(err, h.dir.Close())
	}
	return err
}

// Calendar returns the periods of the history.
func (h *History) Calendar() Calendar { return h.calendar }
