package history

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"

	"promflow/capture"
)

// ErrInUse is the error of opening a history that another process has open.
var ErrInUse = errors.New("another promflow has it open")

// The buckets of the file. There is one for each resolution, too, with volumes by the start of their period.
var (
	stateBucket  = []byte("state") // has one key, the same
	recordBucket = []byte("records")
	whoBucket    = []byte("who")
)

func (r Resolution) bucket() []byte { return []byte(r.String()) }

// startKey returns the key of a period. Keys are in the order of time.
func startKey(start int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(start)^1<<63) }

func parseStart(key []byte) (int64, error) {
	if len(key) != 8 {
		return 0, fmt.Errorf("%w: %x is no period", errDamaged, key)
	}
	return int64(binary.BigEndian.Uint64(key) ^ 1<<63), nil
}

func whoKey(number uint32) []byte { return binary.BigEndian.AppendUint32(nil, number) }

// guard calls do, and returns what bbolt panics with as an error: it takes the file to be as it wrote it. A page of the file that cannot be
// read is a fault in memory.
func guard(do func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", errDamaged, p)
		}
	}()
	return do()
}

// explain tells apart why the file cannot be used: it is in use, it is damaged, or the system does not let us. Of the latter, bbolt keeps the
// text only.
func explain(err error) error {
	switch {
	case errors.Is(err, bbolterrors.ErrTimeout):
		return ErrInUse
	case errors.Is(err, bbolterrors.ErrInvalid), errors.Is(err, bbolterrors.ErrChecksum), errors.Is(err, bbolterrors.ErrVersionMismatch),
		errors.Is(err, bbolterrors.ErrIncompatibleValue): // it is no bucket
		return fmt.Errorf("%w: %w", errDamaged, err)
	case errors.Is(err, syscall.EINVAL), errors.Is(err, syscall.ENODEV): // of mmap(2)
		return fmt.Errorf("%w: perhaps its file system cannot map a file that is written to into memory, as jffs2 cannot: choose a directory on another one", err)
	}
	return err
}

// How long another process may still have the file open: one that is ending, or promflow usage.
const (
	lockTimeout  = time.Second // for reading
	writeTimeout = 5 * time.Second
)

// openDatabase opens the file, and returns its records and state. Both are empty if the file is new.
func (h *History) openDatabase(readOnly bool) (records []saved, s state, err error) {
	_, statErr := h.dir.Lstat(fileName)
	isNew := errors.Is(statErr, fs.ErrNotExist)
	db, err := h.openBolt(readOnly)
	if err != nil {
		switch {
		case errors.Is(err, ErrInUse):
		case isNew && !readOnly:
			h.dir.Remove(fileName) // it may have a part of its first pages, on a disk that is full
		default:
			if why := checkFile(h.dir.FS(), fileName); errors.Is(why, errDamaged) {
				err = why
			}
		}
		return nil, s, err
	}
	err = explain(guard(func() error {
		if err := checkFile(h.dir.FS(), fileName); err != nil {
			return err
		}
		return db.View(func(tx *bbolt.Tx) (err error) {
			records, s, err = load(tx)
			return err
		})
	}))
	if err != nil {
		guard(db.Close)
		return nil, s, err
	}
	if isNew {
		h.syncDir()
	}
	h.db, h.readOnly = db, readOnly
	return records, s, nil
}

// openBolt opens and locks the file. While it waits for the lock, the process that has it may put another file in its place.
func (h *History) openBolt(readOnly bool) (db *bbolt.DB, err error) {
	o := h.options(readOnly)
	o.OpenFile = func(name string, flag int, mode fs.FileMode) (*os.File, error) {
		f, err := h.dir.OpenFile(name, flag, mode)
		if err == nil {
			h.file, err = f.Stat()
		}
		return f, err
	}
	for range 3 {
		err = explain(guard(func() (err error) {
			db, err = bbolt.Open(fileName, 0o600, o)
			return err
		}))
		if err != nil || h.isThere() {
			return db, err
		}
		guard(db.Close)
	}
	return nil, ErrInUse
}

// isThere tells whether the file in the directory is the one that was opened last.
func (h *History) isThere() bool {
	info, err := h.dir.Stat(fileName)
	return err == nil && h.file != nil && os.SameFile(info, h.file)
}

// isElsewhere tells whether the directory is no longer the one that is open. If this process may not look, it says no.
func (h *History) isElsewhere() bool {
	info, err := os.Stat(h.config.Dir)
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	open, err := h.dir.Stat(".")
	return err == nil && !os.SameFile(info, open)
}

// options are those of opening a file in the directory.
func (h *History) options(readOnly bool) *bbolt.Options {
	o := &bbolt.Options{Timeout: writeTimeout, ReadOnly: readOnly, FreelistType: bbolt.FreelistMapType, OpenFile: h.dir.OpenFile}
	if readOnly {
		o.Timeout = lockTimeout
	}
	return o
}

// load reads all that is kept of addresses, and the state.
func load(tx *bbolt.Tx) (records []saved, s state, err error) {
	b := tx.Bucket(stateBucket)
	if b == nil {
		if tx.Bucket(recordBucket) != nil {
			return nil, s, fmt.Errorf("%w: it has no state", errDamaged)
		}
		return nil, s, nil
	}
	value, err := unseal(stateBucket, b.Get(stateBucket))
	if err != nil {
		return nil, s, err
	}
	if s, err = parseState(value); err != nil {
		return nil, s, err
	}
	for _, name := range [][]byte{recordBucket, whoBucket} {
		if tx.Bucket(name) == nil {
			return nil, s, fmt.Errorf("%w: it has no %s", errDamaged, name)
		}
	}
	for r := range resolutions {
		if tx.Bucket(r.bucket()) == nil {
			return nil, s, fmt.Errorf("%w: it has no %v", errDamaged, r)
		}
	}
	var sum capture.Totals
	err = tx.Bucket(recordBucket).ForEach(func(key, sealed []byte) error {
		value, err := unseal(key, sealed)
		if err != nil {
			return err
		}
		var each saved
		if each.addr, each.bits, err = parseAddress(key); err != nil {
			return err
		}
		if each.record, err = parseRecord(value); err != nil {
			return err
		}
		sum.Add(each.sum())
		records = append(records, each)
		return nil
	})
	if err == nil && (sum != s.sum || int64(len(records)) != s.records) {
		err = fmt.Errorf("%w: the sum of its totals is wrong", errDamaged)
	}
	return records, s, err
}

// openFile opens the file at the start, and puts a damaged one aside. If it can only be read, its totals go on.
func (h *History) openFile() ([]saved, error) {
	if err := h.useDir(); err != nil {
		return nil, err
	}
	records, s, err := h.openDatabase(false)
	switch {
	case err == nil:
		h.compact()
	case errors.Is(err, ErrInUse):
		return nil, fmt.Errorf("%s: %w", h.path, err)
	case errors.Is(err, errDamaged) || errors.Is(err, errNewer):
		if err := h.putAside(err); err != nil {
			return nil, err
		}
		records, s, err = h.openDatabase(false)
	default:
		why := err
		if records, s, err = h.openDatabase(true); err != nil {
			return nil, why
		}
		h.state, h.filed = s, s
		return records, why
	}
	h.state, h.filed = s, s
	return records, err
}

// openReadOnly opens the file for a process that only reads it.
func (h *History) openReadOnly() ([]saved, error) {
	var err error
	var info fs.FileInfo
	if h.dir, err = ExistingDir(h.config.Dir); err == nil {
		info, err = h.dir.Stat(fileName)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no history: %s does not exist", h.path)
	} else if err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: %w", h.path, errIrregular)
	}
	records, s, err := h.openDatabase(true)
	if errors.Is(err, ErrInUse) {
		err = fmt.Errorf("%w: ask it by its URL", err)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", h.path, err)
	}
	h.state = s
	return records, nil
}

// putAside renames a file that cannot be used, so that a new one can begin.
func (h *History) putAside(why error) error {
	if _, err := h.dir.Stat(fileName); err == nil && !h.isThere() { // another process has put it aside
		return fmt.Errorf("%s: %w", h.path, ErrInUse)
	}
	h.closeFile()
	h.damaged.Store(false)
	name := fileName + ".damaged-" + h.config.Now().UTC().Format("20060102T150405Z")
	for n, to := 2, name; ; n, to = n+1, name+"-"+strconv.Itoa(n) {
		_, err := h.dir.Lstat(to)
		if err == nil && n < 1000 {
			continue
		}
		if err == nil {
			return fmt.Errorf("%w, and there are too many files that were put aside", why)
		}
		if err := h.dir.Rename(fileName, to); err != nil {
			return errors.Join(why, err)
		}
		h.syncDir()
		h.config.Log.Error("history begins anew: its file cannot be used and was put aside", "error", why, "aside", filepath.Join(h.config.Dir, to))
		return nil
	}
}

// closeFile closes the file, if it is open. One that is damaged stays open if bbolt does not return: when it fails, it may keep its locks.
func (h *History) closeFile() error {
	if h.db == nil {
		return nil
	}
	db := h.db
	h.db = nil
	closed := make(chan error, 1)
	go func() { closed <- guard(db.Close) }()
	if !h.damaged.Load() {
		return <-closed
	}
	select {
	case err := <-closed:
		return err
	case <-time.After(lockTimeout):
		return errDamaged
	}
}

// compactFrom is how many bytes of the file must be free, and more than are in use, for it to be copied at the start.
const compactFrom = 16 << 20

// renamesOpenFiles tells whether the system renames files that are open.
var renamesOpenFiles = runtime.GOOS != "windows"

// compact copies the file, if most of it is free: bbolt never makes it smaller. If that fails, the file stays as it is, as one does that is
// elsewhere and has a link here.
func (h *History) compact() {
	free := int64(h.db.Stats().FreePageN) * int64(h.db.Info().PageSize)
	info, err := h.dir.Lstat(fileName)
	if err != nil || !info.Mode().IsRegular() || free < compactFrom || free < info.Size()/2 {
		return
	}
	const next = fileName + ".new"
	h.dir.Remove(next)
	var db *bbolt.DB
	err = guard(func() (err error) {
		db, err = bbolt.Open(next, 0o600, h.options(false))
		if err != nil {
			return err
		}
		if err := bbolt.Compact(db, h.db, 1<<20); err != nil {
			return err
		}
		if err := db.Sync(); err != nil || !renamesOpenFiles {
			return err
		}
		return h.dir.Rename(next, fileName)
	})
	if err == nil && !renamesOpenFiles { // nobody has it open for a moment
		err = errors.Join(guard(db.Close), h.closeFile())
		db = nil
		if err == nil {
			err = h.dir.Rename(next, fileName)
		}
		if _, _, openErr := h.openDatabase(false); openErr != nil {
			err = errors.Join(err, openErr) // the next write tries again
		}
	}
	if err != nil {
		if db != nil {
			guard(db.Close)
		}
		h.dir.Remove(next)
		h.config.Log.Warn("the history's file stays larger than it must be", "file", h.path, "error", err)
		return
	}
	h.syncDir()
	if db != nil {
		h.closeFile()
		h.db = db
		h.file, _ = h.dir.Stat(fileName)
	}
}

// reopen opens the file if it could not be opened or written before, or is no longer there.
func (h *History) reopen() error {
	if h.db != nil && !h.readOnly {
		elsewhere := h.isElsewhere()
		if !elsewhere && h.isThere() {
			return nil
		}
		h.config.Log.Error("history begins anew: its file is no longer there", "file", h.path)
		h.closeFile()
		if elsewhere {
			h.dir.Close()
			h.dir = nil
		}
	}
	wasRead := h.db != nil
	h.closeFile()
	if err := h.useDir(); err != nil {
		return err
	}
	records, s, err := h.openDatabase(false)
	if errors.Is(err, errDamaged) || errors.Is(err, errNewer) {
		if err = h.putAside(err); err == nil {
			records, s, err = h.openDatabase(false)
		}
	}
	if err != nil {
		if wasRead {
			h.openDatabase(true)
		}
		return err
	}
	if !h.loaded || s != h.filed { // it is another file
		h.join(records, s)
	}
	return nil
}

// join goes on with what the process has counted in a file that was not opened at the start. The totals of the file end, its volumes stay.
func (h *History) join(records []saved, s state) {
	h.late = slices.DeleteFunc(h.late, func(l latePeriod) bool { return l.filed }) // of a file that was put aside
	for r := range resolutions {
		if s.open[r].number == 0 {
			continue
		}
		late := latePeriod{resolution: r, openPeriod: s.open[r], filed: true}
		for i := range records {
			each := &records[i]
			at := host{moved: each.moved, in: each.in}
			if v := at.movedIn(r, &s.open[r]); !each.addr.IsValid() {
				late.other.add(v)
			} else if v != (volume{}) {
				of := &subject{addr: each.addr, bits: each.bits}
				of.setInfo(each.Info)
				late.items = append(late.items, item{of, v})
			}
		}
		late.other.add(fold(&late.items, item.moved))
		h.late = append(h.late, late)
	}
	h.gone = nil
	for i := range records {
		h.gone = append(h.gone, addressKey(records[i].addr, records[i].bits))
	}
	h.filed = s
	h.state.kept, h.state.dropped, h.state.lastWho, h.state.liveWhos = s.kept, s.dropped, s.lastWho, s.liveWhos
	h.loaded = true
	for i := range h.hosts {
		h.hosts[i].changed, h.hosts[i].stored = true, false
	}
	h.other.changed = h.other.changed || h.other.seen != 0
	h.forgetNumbers()
}

// forgetNumbers has the numbers of names read from the file again.
func (h *History) forgetNumbers() {
	h.numbers, h.search = nil, nil
	for i := range h.hosts {
		h.hosts[i].number = 0
	}
	for i := range h.late {
		for _, of := range h.late[i].items {
			of.number = 0
		}
	}
}

// latePeriod is a period that has ended and could not be written, the one that was open in a file that was not opened at the start, or what
// was handed over of one that is open.
type latePeriod struct {
	resolution Resolution
	openPeriod
	items []item
	other volume
	filed bool // it is the one of a file

	handedOver map[holder]int // the index of each item; nil if it is whole
}

// item is what a subject moved in a period.
type item struct {
	*subject
	volume
}

func (i item) moved() volume { return i.volume }

// maxLate is how many periods are kept in memory while they cannot be written. What is moved after them is part of the last one.
var maxLate = [resolutions]int{FiveMinutes: 12, Hour: 24, Day: 7, Month: 1}

// keepEnded keeps the periods that have ended, if they cannot be written, and opens the next ones.
func (h *History) keepEnded(now time.Time) {
	var late [resolutions]int
	for i := range h.late {
		if !h.late[i].filed && h.late[i].handedOver == nil {
			late[h.late[i].resolution]++
		}
	}
	for r := range resolutions {
		open := &h.state.open[r]
		if h.calendar.Start(r, now).Unix() == open.start || late[r] == maxLate[r] {
			continue
		}
		items, other := h.ended(r)
		other.add(fold(&items, item.moved))
		for i := range items { // the host's entry may be that of another address soon
			copied := *items[i].subject
			items[i].subject = &copied
		}
		if len(items) > 0 || other != (volume{}) {
			h.late = append(h.late, latePeriod{resolution: r, openPeriod: *open, items: slices.Clone(items), other: other})
		}
		*open = h.periodOf(r, now, &h.state)
	}
}

// ended returns what was moved in the open period of a resolution, which ends, with the names of now.
func (h *History) ended(r Resolution) (items []item, other volume) {
	open := &h.state.open[r]
	for i := range h.hosts {
		if v := h.hosts[i].movedIn(r, open); v != (volume{}) {
			h.learn(&h.hosts[i])
			items = append(items, item{&h.hosts[i].subject, v})
		}
	}
	return items, h.other.movedIn(r, open)
}

// write writes what has changed since the last write. If the file is damaged, it begins another one.
func (h *History) write(now time.Time) error {
	if err := h.reopen(); err != nil {
		return err
	}
	err := errDamaged
	if !h.damaged.Load() {
		err = h.writeChanges(now)
	}
	if errors.Is(err, errDamaged) {
		h.damaged.Store(true)
		if err := h.putAside(err); err != nil {
			return err
		}
		h.loaded = false
		if err := h.reopen(); err != nil {
			return err
		}
		err = h.writeChanges(now)
	}
	return err
}

// catchUp closes the periods that ended while there was no process: what is moved from now on is not part of them.
func (h *History) catchUp(now time.Time) error {
	if !h.due(now) {
		return nil
	}
	return h.write(now)
}

// due tells whether volumes are to be added to the periods of the file.
func (h *History) due(now time.Time) bool {
	for r, open := range h.state.open {
		if h.calendar.Start(Resolution(r), now).Unix() != open.start {
			return true
		}
	}
	return len(h.late) > 0
}

// writeChanges writes in one transaction. If it fails, all is as before.
func (h *History) writeChanges(now time.Time) error {
	var changed []*host
	for i := range h.hosts {
		if h.hosts[i].changed {
			changed = append(changed, &h.hosts[i])
		}
	}
	if h.other.changed {
		changed = append(changed, &h.other)
	}
	due := h.due(now)
	if !due && len(changed) == 0 && len(h.gone) == 0 {
		return nil
	}
	// In the order of the file, pages are written faster.
	slices.SortFunc(changed, func(a, b *host) int { return cmp.Or(a.addr.Compare(b.addr), cmp.Compare(a.bits, b.bits)) })
	next, complete := h.state, false
	err := explain(guard(func() error {
		return h.transact(h.db, func(tx *bbolt.Tx) error {
			t := transaction{Tx: tx, h: h, next: &next, now: now}
			err := t.write(changed, due)
			complete = err == nil
			return err
		})
	}))
	if errors.Is(err, bbolterrors.ErrInvalidMapping) {
		h.closeFile() // there was no memory for a larger file: it can be opened again
	}
	if err != nil && !(complete && h.isState(&next)) {
		h.forgetNumbers()
		return err
	}
	h.state, h.filed, h.gone, h.late = next, next, nil, nil
	for _, at := range changed {
		at.changed, at.stored = false, true
	}
	return err
}

// isState tells whether the file has this state. If the disk fails when a transaction is all but done, the file has it nevertheless.
func (h *History) isState(s *state) (is bool) {
	if h.db == nil {
		return false
	}
	guard(func() error {
		return h.db.View(func(tx *bbolt.Tx) error {
			if b := tx.Bucket(stateBucket); b != nil {
				is = bytes.Equal(b.Get(stateBucket), seal(stateBucket, 200, s.append))
			}
			return nil
		})
	})
	return is
}

// transaction is one write.
type transaction struct {
	*bbolt.Tx
	h    *History
	next *state // the state that is written
	now  time.Time
}

func (t *transaction) write(changed []*host, due bool) error {
	for _, name := range [][]byte{stateBucket, recordBucket, whoBucket} {
		if _, err := t.CreateBucketIfNotExists(name); err != nil {
			return err
		}
	}
	for r := range resolutions {
		if _, err := t.CreateBucketIfNotExists(r.bucket()); err != nil {
			return err
		}
	}
	if due {
		if err := t.closePeriods(); err != nil {
			return err
		}
	}
	records := t.Bucket(recordBucket)
	records.FillPercent = 0.8 // values hardly grow
	for _, key := range t.h.gone {
		if err := records.Delete(key); err != nil {
			return err
		}
	}
	for _, at := range changed {
		at.seen = max(at.seen, 1)
		key, r := addressKey(at.addr, at.bits), t.recordOf(at)
		if err := records.Put(key, seal(key, 120, r.append)); err != nil {
			return err
		}
	}
	n := t.next
	n.saved, n.sum, n.records = t.now.Unix(), t.h.other.sum, int64(len(t.h.hosts))
	if t.h.other.seen != 0 {
		n.records++
	}
	for i := range t.h.hosts {
		n.sum.Add(t.h.hosts[i].sum)
	}
	return t.Bucket(stateBucket).Put(stateBucket, seal(stateBucket, 200, n.append))
}

// recordOf returns what is kept of a host.
func (t *transaction) recordOf(at *host) record {
	r := record{own: at.own(), seen: at.seen, began: at.began, Info: at.info()}
	for i := range resolutions {
		if v := at.movedIn(i, &t.next.open[i]); v != (volume{}) {
			r.moved[i], r.in[i] = v, t.next.open[i].number
		}
	}
	for i := range at.parts {
		p := &at.parts[i]
		r.series = append(r.series, recordSeries{t.h.config.Table.Grouping().Texts(at.addr, p.values), p.Totals, p.began})
	}
	return r
}

// closePeriods closes the periods that have ended, and opens the next ones. Then it deletes what is kept for long enough.
func (t *transaction) closePeriods() error {
	h := t.h
	for r, dropped := range t.next.dropped { // if the clock was in the future, what it dropped there is no gap before now
		t.next.dropped[r] = min(dropped, t.now.Unix())
	}
	for i := range h.late {
		l := &h.late[i]
		if err := t.closePeriod(l.resolution, l.openPeriod, l.items, l.other); err != nil {
			return err
		}
	}
	for r := range resolutions {
		open := h.state.open[r]
		if h.calendar.Start(r, t.now).Unix() == open.start {
			continue
		}
		items, other := h.ended(r)
		if err := t.closePeriod(r, open, items, other); err != nil {
			return err
		}
		t.next.open[r] = h.periodOf(r, t.now, t.next)
	}
	if err := t.expire(); err != nil {
		return err
	}
	if err := t.shrink(); err != nil {
		return err
	}
	return t.collect()
}

// closePeriod adds volumes to those of a period.
func (t *transaction) closePeriod(r Resolution, of openPeriod, items []item, other volume) error {
	other.add(fold(&items, item.moved))
	if len(items) == 0 && other == (volume{}) {
		return nil
	}
	v := volumes{length: max(of.end-of.start, 0), other: other}
	for _, i := range items {
		number, err := t.number(i.subject)
		if err != nil {
			return err
		}
		v.of = append(v.of, entry{number, i.volume})
	}
	bucket, key := t.Bucket(r.bucket()), startKey(of.start)
	if sealed := bucket.Get(key); sealed != nil {
		before, err := readVolumes(key, sealed)
		if err != nil {
			return err
		}
		v.merge(before)
	} else {
		slices.SortFunc(v.of, func(a, b entry) int { return cmp.Compare(a.who, b.who) })
		t.next.kept[r]++
	}
	return bucket.Put(key, seal(key, 16*len(v.of)+32, v.append))
}

// readVolumes reads the volumes of a period.
func readVolumes(key, sealed []byte) (volumes, error) {
	value, err := unseal(key, sealed)
	if err != nil {
		return volumes{}, err
	}
	return parseVolumes(value)
}

// hashOf returns a hash of how a who is written.
func hashOf(b []byte) uint64 {
	f := fnv.New64a()
	f.Write(b)
	return f.Sum64()
}

// number returns the number of what a subject is known as.
func (t *transaction) number(at *subject) (uint32, error) {
	h := t.h
	if at.number != 0 {
		h.search.mark(at.number)
		return at.number, nil
	}
	bucket := t.Bucket(whoBucket)
	if h.numbers == nil {
		h.numbers = map[uint64]uint32{}
		if err := bucket.ForEach(func(key, sealed []byte) error {
			value, err := unseal(key, sealed)
			if err == nil && len(key) == 4 {
				h.numbers[hashOf(value)] = binary.BigEndian.Uint32(key)
			}
			return err
		}); err != nil {
			return 0, err
		}
	}
	w := who{at.addr, at.bits, at.info()}
	value := w.append(nil)
	hash := hashOf(value)
	number, ok := h.numbers[hash]
	if ok { // another one may have the same hash
		key := whoKey(number)
		known, err := unseal(key, bucket.Get(key))
		if err != nil {
			return 0, err
		}
		ok = bytes.Equal(known, value)
	}
	if !ok {
		t.next.lastWho++
		number = uint32(t.next.lastWho)
		key := whoKey(number)
		if err := bucket.Put(key, seal(key, len(value), w.append)); err != nil {
			return 0, err
		}
		h.numbers[hash] = number
	}
	at.number = number
	h.search.mark(number)
	return number, nil
}

// calm is how long the clock must not have been set before periods are deleted for their age.
const calm = time.Hour

// expire deletes the periods that ended before the retention.
func (t *transaction) expire() error {
	if t.now.Sub(t.h.steady) < calm {
		return nil
	}
	for r, keep := range t.h.config.Retention {
		if keep <= 0 {
			continue
		}
		until := t.now.Add(-keep).Unix()
		for {
			first, err := t.first(Resolution(r))
			if err != nil {
				return err
			}
			if first == nil || first.end > until {
				break
			}
			if err := t.drop(first); err != nil {
				return err
			}
		}
	}
	return nil
}

// kept is a period in the file.
type kept struct {
	resolution Resolution
	key        []byte
	end        int64
	size       int
}

// first returns the first period of a resolution, nil if there is none.
func (t *transaction) first(r Resolution) (*kept, error) {
	key, sealed := t.Bucket(r.bucket()).Cursor().First()
	if key == nil {
		return nil, nil
	}
	start, err := parseStart(key)
	if err != nil {
		return nil, err
	}
	v, err := readVolumes(key, sealed)
	if err != nil {
		return nil, err
	}
	return &kept{r, bytes.Clone(key), start + v.length, len(sealed)}, nil
}

// drop deletes a period.
func (t *transaction) drop(p *kept) error {
	t.next.dropped[p.resolution] = max(t.next.dropped[p.resolution], p.end)
	t.next.kept[p.resolution]--
	return t.Bucket(p.resolution.bucket()).Delete(p.key)
}

// shrink deletes periods until the file fits into its size: the oldest first, and of those that end together the shortest.
func (t *transaction) shrink() error {
	page := t.h.db.Info().PageSize
	stats := t.h.db.Stats()
	used := t.Size() - int64(stats.FreePageN+stats.PendingPageN)*int64(page)
	for used > t.h.config.Size {
		var oldest *kept
		for r := range resolutions {
			first, err := t.first(r)
			if err != nil {
				return err
			}
			// Of an open period, only what was handed over is there.
			if first != nil && !bytes.Equal(first.key, startKey(t.next.open[r].start)) && (oldest == nil || first.end < oldest.end) {
				oldest = first
			}
		}
		if oldest == nil {
			return nil
		}
		if err := t.drop(oldest); err != nil {
			return err
		}
		used -= int64(oldest.size)
	}
	return nil
}

// collectFrom is how many names can be without use before they are searched for. A write reads collectPeriods and deletes collectNames at
// most, so that it does not take long.
const (
	collectFrom    = 1 << 16
	collectPeriods = 64
	collectNames   = 1 << 13
)

// search is for the names that no period has any more. It goes on from write to write.
type search struct {
	used       []uint64 // a bit for each number that there was at the begin
	resolution Resolution
	next       []byte // the key of the first period that was not read
}

// mark remembers that a number is used.
func (s *search) mark(number uint32) {
	if s != nil && int(number/64) < len(s.used) {
		s.used[number/64] |= 1 << (number % 64)
	}
}

func (s *search) marked(number uint32) bool {
	return int(number/64) >= len(s.used) || s.used[number/64]>>(number%64)&1 != 0
}

// read marks what the next periods have, and returns whether these were the last.
func (s *search) read(t *transaction) (bool, error) {
	left := collectPeriods
	for ; s.resolution < resolutions; s.resolution, s.next = s.resolution+1, nil {
		c := t.Bucket(s.resolution.bucket()).Cursor()
		for key, sealed := c.Seek(s.next); key != nil; key, sealed = c.Next() {
			if left == 0 {
				s.next = bytes.Clone(key)
				return false, nil
			}
			left--
			v, err := readVolumes(key, sealed)
			if err != nil {
				return false, err
			}
			for _, e := range v.of {
				s.mark(e.who)
			}
		}
	}
	return true, nil
}

// collect deletes names that no period has any more.
func (t *transaction) collect() error {
	h := t.h
	if h.numbers == nil {
		return nil
	}
	if h.search == nil {
		if int64(len(h.numbers)) < 2*t.next.liveWhos+collectFrom {
			return nil
		}
		h.search = &search{used: make([]uint64, t.next.lastWho/64+1)}
	}
	if complete, err := h.search.read(t); err != nil || !complete {
		return err
	}
	var unused []uint64 // hashes
	for hash, number := range h.numbers {
		if len(unused) < collectNames && !h.search.marked(number) {
			unused = append(unused, hash)
		}
	}
	// In the order of the file, they are deleted faster.
	slices.SortFunc(unused, func(a, b uint64) int { return cmp.Compare(h.numbers[a], h.numbers[b]) })
	for _, hash := range unused {
		if err := t.Bucket(whoBucket).Delete(whoKey(h.numbers[hash])); err != nil {
			return err
		}
		delete(h.numbers, hash)
	}
	for i := range h.hosts {
		if at := &h.hosts[i]; !h.search.marked(at.number) {
			at.number = 0
		}
	}
	if len(unused) < collectNames {
		t.next.liveWhos, h.search = int64(len(h.numbers)), nil
	}
	return nil
}
