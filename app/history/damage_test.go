package history

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"promflow/capture"
)

// sample writes a history of some hours, and returns its file and the totals after each write.
func sample(t testing.TB) (b *bench, file []byte, totals map[volume]bool) {
	b = newBench(t, Config{})
	b.Close()
	b.openWith(capture.NewTable(400, 0))
	random := rand.New(rand.NewPCG(1, 2))
	totals = map[volume]bool{}
	for range 30 {
		for i := range 300 {
			b.info[addr4(i)] = Info{Hostname: fmt.Sprint("host", i)}
			b.move(i, random.Int64N(1<<30))
		}
		b.now = b.now.Add(5 * time.Minute)
		b.Write()
		totals[b.total()] = true
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(b.path)
	if err != nil {
		t.Fatal(err)
	}
	return b, file, totals
}

// opens opens what is in a file, reads all, and writes. It returns whether the file was put aside, and fails the test if totals are wrong.
func (b *bench) opens(what string, file []byte, totals map[volume]bool) (aside bool) {
	b.t.Helper()
	b.log.Reset()
	if err := os.WriteFile(b.path, file, 0o600); err != nil {
		b.t.Fatal(err)
	}
	b.open()
	total := b.total()
	if total != (volume{}) && !totals[total] {
		b.t.Errorf("%s: %+v is a sum that never was", what, total)
	}
	for r := range resolutions {
		b.Series(r, 30, "")
	}
	b.Usage(Query{From: start, To: b.now, By: ByIP})
	b.move(1, 1)
	b.now = b.now.Add(5 * time.Minute)
	b.Write()
	if b.Failing() {
		b.t.Errorf("%s: it is not written again: %s", what, &b.log)
	}
	want := b.total()
	b.restart()
	if got := b.total(); got != want {
		b.t.Errorf("%s: %+v after a restart, %+v before", what, got, want)
	}
	b.Close()
	left, _ := filepath.Glob(b.path + ".damaged-*")
	if len(left) > 1 || len(left) == 0 && total == (volume{}) {
		b.t.Errorf("%s: %d files were put aside", what, len(left))
	}
	for _, name := range left {
		if got, err := os.ReadFile(name); err != nil || strings.Contains(what, "truncated") && string(got) != string(file) {
			b.t.Errorf("%s: the file that was put aside is another one, %v", what, err)
		}
		os.Remove(name)
	}
	if len(left) == 1 && strings.Count(b.log.String(), "aside") == 0 {
		b.t.Errorf("%s: the log has %q", what, &b.log)
	}
	return len(left) > 0
}

func TestDamagedFileIsPutAside(t *testing.T) {
	b, file, totals := sample(t)
	found, tried := 0, 200
	if testing.Short() {
		tried = 50
	}
	random := rand.New(rand.NewPCG(3, 4))
	page := os.Getpagesize()
	for i := range tried {
		at := random.IntN(len(file))
		if i%2 == 0 { // in the head of a page
			at = at/page*page + random.IntN(64)
		}
		damaged := append([]byte(nil), file...)
		damaged[at] ^= 1 << random.IntN(8)
		if b.opens(fmt.Sprintf("a bit of byte %d", at), damaged, totals) {
			found++
		}
		damaged = append([]byte(nil), file...)
		for j := range 512 {
			damaged[at/512*512+j] = byte(random.Uint32())
		}
		b.opens(fmt.Sprintf("the sector of byte %d", at), damaged, totals)
	}
	if found < tried/10 {
		t.Errorf("%d of %d were found: the test shows little", found, tried)
	}
	for range tried / 2 {
		length := 1 + random.IntN(len(file)-1)
		b.opens(fmt.Sprintf("truncated to %d bytes", length), file[:length], totals)
	}
	b.opens("the file as it was", file, totals)
}

// TestFileOfANewerVersionIsPutAside also has two files that are put aside in the same second.
func TestFileOfANewerVersionIsPutAside(t *testing.T) {
	b, _, _ := sample(t)
	for i := range 3 {
		b.open()
		if err := b.db.Update(func(tx *bbolt.Tx) error {
			return tx.Bucket(stateBucket).Put(stateBucket, seal(stateBucket, 1, func(b []byte) []byte { return append(b, version+1) }))
		}); err != nil {
			t.Fatal(err)
		}
		b.kill()
		b.log.Reset()
		b.open()
		if !strings.Contains(b.log.String(), "version 2") || b.Failing() {
			t.Errorf("the log has %q", &b.log)
		}
		b.move(1, 1)
		b.Write()
		b.kill()
		if left, _ := filepath.Glob(b.path + ".damaged-*"); len(left) != i+1 {
			t.Errorf("%d files were put aside, want %d", len(left), i+1)
		}
	}
}

// TestFileThatIsCutOffWhileItIsOpen has what is left of the file end anywhere, also where bbolt does not get over it.
func TestFileThatIsCutOffWhileItIsOpen(t *testing.T) {
	b, file, _ := sample(t)
	for _, length := range []int{0, os.Getpagesize(), len(file) / 4} { // all have pages in use behind them
		for _, query := range []bool{false, true} {
			if err := os.WriteFile(b.path, file, 0o600); err != nil {
				t.Fatal(err)
			}
			b.open()
			if err := os.Truncate(b.path, int64(length)); err != nil {
				t.Fatal(err)
			}
			if query {
				b.Usage(Query{From: start, To: b.now, By: ByIP})
			}
			for i := range 300 {
				b.move(i, 1)
			}
			b.now = b.now.Add(5 * time.Minute)
			b.Write()
			if b.Failing() {
				t.Errorf("cut off at %d: %s", length, &b.log)
			}
			want := b.total()
			b.restart()
			if got := b.total(); got != want {
				t.Errorf("cut off at %d: %+v after a restart, %+v before", length, got, want)
			}
			b.Close()
			left, _ := filepath.Glob(b.path + ".damaged-*")
			if len(left) != 1 {
				t.Errorf("cut off at %d: %d files were put aside", length, len(left))
			}
			for _, name := range left {
				os.Remove(name)
			}
		}
	}
}

// TestValueInPlaceOfABucketIsDamage has one that is not missed until it is written.
func TestValueInPlaceOfABucketIsDamage(t *testing.T) {
	b := newBench(t, Config{})
	b.move(1, 100)
	b.Write()
	b.Close()
	if err := os.Remove(b.path); err != nil {
		t.Fatal(err)
	}
	db, err := bbolt.Open(b.path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(func(tx *bbolt.Tx) error { _, err := tx.CreateBucket(whoBucket); return err }); err != nil {
		t.Fatal(err)
	}
	db.Close()
	file, err := os.ReadFile(b.path)
	if err != nil {
		t.Fatal(err)
	}
	page := os.Getpagesize()
	changed := 0
	for at := 2 * page; at+pageHeader+leafElement < len(file); at += page {
		if native.Uint16(file[at+8:]) == leafPage && native.Uint32(file[at+pageHeader:]) == bucketFlag {
			native.PutUint32(file[at+pageHeader:], 0)
			changed++
		}
	}
	if changed == 0 {
		t.Fatal("there is no bucket")
	}
	if err := os.WriteFile(b.path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	b.open()
	b.move(1, 1)
	b.Write()
	if left, _ := filepath.Glob(b.path + ".damaged-*"); len(left) != 1 || b.Failing() {
		t.Errorf("put aside were %v: %s", left, &b.log)
	}
	b.conserved()
}

// FuzzCheckPages checks any bytes: bbolt must open and read all that has no error, and must not fail in another way than by an error.
func FuzzCheckPages(f *testing.F) {
	b, _, _ := sample(f)
	os.Remove(b.path)
	db, err := bbolt.Open(b.path, 0o600, &bbolt.Options{PageSize: 1024})
	if err != nil {
		f.Fatal(err)
	}
	for i := range 3 {
		if err := db.Update(func(tx *bbolt.Tx) error {
			bucket, err := tx.CreateBucketIfNotExists([]byte{byte('a' + i)})
			if err != nil {
				return err
			}
			for j := range 30 * i {
				if err := bucket.Put([]byte(fmt.Sprint(j)), make([]byte, 40*i)); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			f.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		f.Fatal(err)
	}
	small, err := os.ReadFile(b.path)
	if err != nil {
		f.Fatal(err)
	}
	if err := checkFile(os.DirFS(b.config.Dir), fileName); err != nil {
		f.Fatal(err)
	}
	f.Add(small, uint32(0), byte(0))
	f.Add(small, uint32(3*1024+8), byte(1))
	f.Add(small, uint32(5*1024+24), byte(3))
	f.Add(small, uint32(0x13dd), byte(3)) // the number of a page that is in a bucket
	for i := range 32 {                   // flags of what may be a bucket
		f.Add(small, uint32(i*1024+16), byte(1))
	}
	path := filepath.Join(f.TempDir(), "fuzz.db")
	f.Fuzz(func(t *testing.T, file []byte, at uint32, flip byte) {
		if len(file) == 0 || len(file) > 1<<20 {
			return
		}
		file = append([]byte(nil), file...)
		file[int(at)%len(file)] ^= flip
		if err := os.WriteFile(path, file, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := checkFile(os.DirFS(filepath.Dir(path)), filepath.Base(path)); err != nil {
			if !errors.Is(err, errDamaged) && !strings.Contains(err.Error(), "EOF") {
				t.Fatal(err)
			}
			return
		}
		db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Second})
		if err != nil {
			return // bbolt finds more
		}
		defer db.Close()
		if err := db.Update(func(tx *bbolt.Tx) error {
			return tx.ForEach(func(_ []byte, b *bbolt.Bucket) error {
				if b == nil { // a value that is in no bucket
					return nil
				}
				if err := b.ForEach(func(k, v []byte) error { return nil }); err != nil {
					return err
				}
				return b.Put([]byte("new"), make([]byte, 2000))
			})
		}); err != nil {
			t.Log(err)
		}
	})
}

// TestStartsInTheSameMoment has two processes open a file that one of them replaces: by a smaller one, or by a new one as it is damaged.
func TestStartsInTheSameMoment(t *testing.T) {
	for name, spoil := range map[string]func(*bench){
		"mostly free": func(b *bench) {
			junk := []byte("junk")
			for _, do := range []func(*bbolt.Tx) error{
				func(tx *bbolt.Tx) error {
					bucket, err := tx.CreateBucket(junk)
					return cmp.Or(err, bucket.Put(junk, make([]byte, 2*compactFrom)))
				},
				func(tx *bbolt.Tx) error { return tx.DeleteBucket(junk) },
			} {
				if err := b.db.Update(do); err != nil {
					b.t.Fatal(err)
				}
			}
			b.Close()
		},
		"damaged": func(b *bench) {
			b.Close()
			if err := os.WriteFile(b.path, make([]byte, 1<<16), 0o600); err != nil {
				b.t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, Config{})
			b.move(1, 5)
			b.pass(5 * time.Minute)
			spoil(b)
			var all sync.WaitGroup
			var opened [3]*History
			for i := range opened {
				all.Go(func() {
					h, err := Open(Config{Dir: b.config.Dir, Table: capture.NewTable(100, 0)})
					if opened[i] = h; err != nil && !errors.Is(err, ErrInUse) {
						t.Error(err)
					}
				})
			}
			all.Wait()
			n := 0
			for _, h := range opened {
				if h == nil {
					continue
				}
				if n++; h.Failing() || !h.isThere() {
					t.Error("one has another file open than the one that is there")
				}
				h.Close()
			}
			if n != 1 {
				t.Errorf("%d have it open", n)
			}
		})
	}
}

// TestFileThatIsNoLongerThere is removed, moved away, or goes with its directory while promflow runs.
func TestFileThatIsNoLongerThere(t *testing.T) {
	for name, remove := range map[string]func(*bench) error{
		"removed":              func(b *bench) error { return os.Remove(b.path) },
		"moved":                func(b *bench) error { return os.Rename(b.path, b.path+".old") },
		"with its directory":   func(b *bench) error { return os.RemoveAll(b.config.Dir) },
		"directory is moved":   func(b *bench) error { return os.Rename(b.config.Dir, b.config.Dir+".old") },
		"another in its place": func(b *bench) error { return cmp.Or(os.Remove(b.path), os.WriteFile(b.path, nil, 0o600)) },
	} {
		t.Run(name, func(t *testing.T) {
			if runtime.GOOS == "windows" {
				t.Skip("this test needs a system that removes open files")
			}
			b := newBench(t, Config{})
			b.move(1, 5)
			b.pass(5 * time.Minute)
			if err := remove(b); err != nil {
				t.Fatal(err)
			}
			b.move(1, 7)
			b.Write()
			if log := b.log.String(); b.Failing() || strings.Count(log, "no longer there") != 1 {
				t.Errorf("the log has %s", log)
			}
			want := b.total()
			b.restart()
			if got := b.total(); got != want {
				t.Errorf("%+v after a restart, %+v before", got, want)
			}
		})
	}
}
