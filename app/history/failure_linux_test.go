package history

import (
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"promflow/capture"
	"promflow/capture/nettest"
)

// mount mounts a file system of a size, and returns its directory.
func mount(t *testing.T, size string) string {
	t.Helper()
	nettest.NeedRoot(t)
	dir := t.TempDir()
	nettest.Check(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size))
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

func remount(t *testing.T, dir string, flags uintptr, size string) {
	t.Helper()
	nettest.Check(t, unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT|flags, "size="+size))
}

// fails has the history write, and expects failures with one line in the log.
func (b *bench) fails(t *testing.T, want string) {
	t.Helper()
	for range 3 {
		b.move(1, 1)
		b.now = b.now.Add(5 * time.Minute)
		b.Write()
		if !b.Failing() {
			t.Error("it does not say that it fails")
		}
	}
	if got := b.log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, want) {
		t.Errorf("the log has %q, want one line with %q", got, want)
	}
}

// recovers has the history write, and expects that all is kept.
func (b *bench) recovers(t *testing.T) {
	t.Helper()
	b.log.Reset()
	b.now = b.now.Add(5 * time.Minute)
	b.Write()
	if got := b.log.String(); b.Failing() || strings.Count(got, "\n") != 1 || !strings.Contains(got, "again") || !b.LastWrite().Equal(b.now) {
		t.Errorf("it does not recover: %q", got)
	}
	total := b.total()
	b.restart()
	if got := b.total(); got != total || b.log.Len() > strings.Index(b.log.String(), "\n")+1 {
		t.Errorf("%+v after a restart, %+v before: %s", got, total, &b.log)
	}
}

func TestFullDisk(t *testing.T) {
	b := newBench(t, Config{Dir: mount(t, "256k")})
	b.Close()
	b.openWith(capture.NewTable(20_000, 0))
	b.move(1, 100)
	b.Write()
	for i := range 10_000 {
		b.move(i, 1)
	}
	b.fails(t, "no space left")
	if got := b.usage(start, b.now.Add(1), ByIP); got["10.0.0.1"] != 104 || len(got) != maxAddresses+1 {
		t.Errorf("%d addresses, and 10.0.0.1 with %d", len(got), got["10.0.0.1"])
	}
	b.conserved()
	remount(t, b.config.Dir, 0, "64m")
	b.recovers(t)
	b.conserved()
}

// TestPeriodsThatEndWhileTheDiskIsFull has what is moved meanwhile stay in its period, until there are too many.
func TestPeriodsThatEndWhileTheDiskIsFull(t *testing.T) {
	b := newBench(t, Config{Dir: mount(t, "256k")})
	b.Close()
	b.openWith(capture.NewTable(20_000, 0))
	b.move(1, 100)
	b.Write()
	for i := range 10_000 {
		b.move(i, 1)
	}
	b.pass(20 * time.Minute)
	full := b.now
	b.move(2, 10)
	b.pass(10 * time.Minute)
	b.move(3, 10)
	b.pass(40 * time.Minute)
	b.move(4, 1000)
	b.pass(3 * time.Hour)
	b.conserved()
	if !b.Failing() || len(b.late) == 0 {
		t.Fatalf("%d periods are in memory: %s", len(b.late), &b.log)
	}
	usage := func() {
		t.Helper()
		b.conserved()
		wantUsage(t, b.usage(full, full.Add(5*time.Minute), ByIP), map[string]int64{"10.0.0.2": 10})
		wantUsage(t, b.usage(full.Add(10*time.Minute), full.Add(15*time.Minute), ByIP), map[string]int64{"10.0.0.3": 10})
		hours, err := b.Series(Hour, 5, "10.0.0.4")
		if err != nil || hours[1].Receive != 1000 {
			t.Errorf("hours are %+v, %v", hours, err)
		}
	}
	usage()
	remount(t, b.config.Dir, 0, "64m")
	b.log.Reset()
	b.recovers(t)
	usage()
	if len(b.late) > 0 {
		t.Errorf("%d periods are in memory", len(b.late))
	}
}

// TestFileThatMustNotGrow has a limit for the length of files, as a quota is: bbolt's error is but a text then.
func TestFileThatMustNotGrow(t *testing.T) {
	b := newBench(t, Config{})
	b.Close()
	b.openWith(capture.NewTable(capture.DefaultLimit, 0))
	b.move(1, 100)
	b.Write()
	for i := range capture.DefaultLimit {
		b.move(i, 1)
	}
	// The limit is that of the test's own log, too.
	signal.Ignore(unix.SIGXFSZ)
	defer signal.Reset(unix.SIGXFSZ)
	var was unix.Rlimit
	nettest.Check(t, unix.Getrlimit(unix.RLIMIT_FSIZE, &was))
	nettest.Check(t, unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 4 << 20, Max: was.Max}))
	b.fails(t, "too large")
	b.conserved()
	nettest.Check(t, unix.Setrlimit(unix.RLIMIT_FSIZE, &was))
	b.recovers(t)
	b.conserved()
	if left, _ := filepath.Glob(b.path + ".*"); len(left) > 0 {
		t.Errorf("put aside were %v", left)
	}
}

func TestDiskThatIsFullAtTheStart(t *testing.T) {
	b := newBench(t, Config{})
	b.Close()
	b.config.Dir = mount(t, "64k")
	filler := filepath.Join(b.config.Dir, "filler")
	os.WriteFile(filler, make([]byte, 64<<10), 0o600)
	b.open()
	b.fails(t, "no space left")
	nettest.Check(t, os.Remove(filler))
	remount(t, b.config.Dir, 0, "16m")
	b.recovers(t)
	if left, _ := filepath.Glob(filepath.Join(b.config.Dir, "*.damaged-*")); len(left) > 0 {
		t.Errorf("put aside were %v", left)
	}
	b.conserved()
}

func TestReadOnlyFileSystem(t *testing.T) {
	t.Run("from the start", func(t *testing.T) {
		b := newBench(t, Config{Dir: mount(t, "16m")})
		b.move(1, 100)
		b.pass(5 * time.Minute)
		b.Close()
		remount(t, b.config.Dir, unix.MS_RDONLY, "16m")
		b.open()
		if got := b.total().receive; got != 100 {
			t.Errorf("%d bytes go on", got)
		}
		b.fails(t, "read-only")
		wantUsage(t, b.usage(start, b.now.Add(1), ByIP), map[string]int64{"10.0.0.1": 103})
		b.conserved()
		remount(t, b.config.Dir, 0, "16m")
		b.recovers(t)
		b.conserved()
	})
	t.Run("without a file", func(t *testing.T) {
		dir := mount(t, "16m")
		remount(t, dir, unix.MS_RDONLY, "16m")
		b := newBench(t, Config{Dir: filepath.Join(dir, "data")})
		b.fails(t, "read-only")
		remount(t, dir, 0, "16m")
		b.recovers(t)
		b.conserved()
	})
}

// TestFileThatCannotBeRead has a directory of its name, which is not put aside.
func TestFileThatCannotBeRead(t *testing.T) {
	b := newBench(t, Config{})
	b.Close()
	nettest.Check(t, os.Remove(b.path))
	nettest.Check(t, os.Mkdir(b.path, 0o700))
	b.open()
	b.fails(t, "is a directory")
	nettest.Check(t, os.Remove(b.path))
	b.recovers(t)
	b.conserved()
}

// TestFileThatAppearsLater has a directory of another history mounted after the start: its volumes stay, its totals end.
func TestFileThatAppearsLater(t *testing.T) {
	b := newBench(t, Config{})
	b.move(1, 100)
	b.pass(5 * time.Minute)
	b.move(2, 10)
	b.restart()
	b.Close()
	dir := b.config.Dir
	b.config.Dir = filepath.Join(dir, "none", "data")
	nettest.Check(t, os.WriteFile(filepath.Join(dir, "none"), nil, 0o600))
	b.open()
	b.fails(t, "not a directory")
	nettest.Check(t, os.Remove(filepath.Join(dir, "none")))
	nettest.Check(t, os.MkdirAll(b.config.Dir, 0o700))
	nettest.Check(t, os.Rename(filepath.Join(dir, fileName), b.path))
	b.recovers(t)
	wantUsage(t, b.usage(start, b.now.Add(1), ByIP), map[string]int64{"10.0.0.1": 103, "10.0.0.2": 10})
}
