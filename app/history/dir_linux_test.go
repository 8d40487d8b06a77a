package history

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"promflow/capture/nettest"
)

// owner returns who owns a file.
func owner(t *testing.T, path string) int {
	t.Helper()
	var stat unix.Stat_t
	nettest.Check(t, unix.Lstat(path, &stat))
	return int(stat.Uid)
}

func TestGive(t *testing.T) {
	nettest.NeedRoot(t)
	const user, other = 65532, 1000
	temporary := func(t *testing.T) string { return t.TempDir() }
	inRoot := func(t *testing.T) string { // as /mnt is
		dir, err := os.MkdirTemp("/", "promflow")
		nettest.Check(t, err)
		t.Cleanup(func() { os.RemoveAll(dir) })
		return dir
	}
	linked := func(t *testing.T) string {
		link := filepath.Join(t.TempDir(), "link")
		nettest.Check(t, os.Symlink(inRoot(t), link))
		return link
	}
	ofFileSystem := func(t *testing.T) string { return mount(t, "1m") }
	for _, c := range []struct {
		name  string
		in    func(*testing.T) string
		owner int
		mode  os.FileMode
		files string // separated by spaces; a directory has a slash at its end, what is not root's begins with a dot and a slash
		given bool
	}{
		{"as it is made", temporary, 0, 0o700, "", true},
		{"as it is made, in /", inRoot, 0, 0o700, "", true},
		{"empty", temporary, 0, 0o755, "", true},
		{"empty, for a group to read", temporary, 0, 0o750, "", true},
		{"empty, in /", inRoot, 0, 0o755, "", false},
		{"empty, with a link to / before", linked, 0, 0o755, "", false},
		{"empty, in / for a group to read", inRoot, 0, 0o750, "", false},
		{"empty, writable by a group", temporary, 0, 0o770, "", false},
		{"empty, writable by all", temporary, 0, 0o777, "", false},
		{"as /tmp", temporary, 0, 0o777 | os.ModeSticky, "", false},
		{"another user's", temporary, other, 0o755, "", false},
		{"another user's alone", temporary, other, 0o700, "", false},
		{"another user's with a history", temporary, other, 0o700, "history.db", false},
		{"given before", temporary, user, 0o700, "history.db", false},
		{"with a history", temporary, 0, 0o755, "history.db", true},
		{"with a history, in /", inRoot, 0, 0o755, "history.db history.db.damaged-20261130T000000Z", true},
		{"with the history of another user", temporary, 0, 0o700, "./history.db", true},
		{"with a history that has begun anew, in /", inRoot, 0, 0o755, "history.db.damaged-20261130T000000Z", false},
		{"with a history, writable by all", temporary, 0, 0o777, "history.db", false},
		{"with a directory of its name", temporary, 0, 0o700, "history.db/", false},
		{"with a file", temporary, 0, 0o700, "notes", false},
		{"with a history and a file", temporary, 0, 0o700, "history.db notes", false},
		{"with a directory", temporary, 0, 0o700, "log/", false},
		{"with a hidden file", temporary, 0, 0o755, ".profile", false},
		{"fresh", ofFileSystem, 0, 0o755, "lost+found/", true},
		{"fresh, in /", inRoot, 0, 0o755, "lost+found/", true},
		{"fresh, with a history", ofFileSystem, 0, 0o755, "lost+found/ history.db", true},
		{"fresh, with a file", ofFileSystem, 0, 0o755, "lost+found/ photos/", false},
		{"fresh, writable by all", ofFileSystem, 0, 0o777, "lost+found/", false},
		{"fresh, another user's", ofFileSystem, other, 0o755, "lost+found/", false},
		{"with another user's lost+found", inRoot, 0, 0o755, "./lost+found/", false},
		{"with a file lost+found", temporary, 0, 0o755, "lost+found", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := c.in(t)
			owners := map[string]int{}
			for _, name := range strings.Fields(c.files) {
				file := filepath.Join(path, name)
				if strings.HasSuffix(name, "/") {
					nettest.Check(t, os.Mkdir(file, 0o700))
				} else {
					nettest.Check(t, os.WriteFile(file, nil, 0o600))
				}
				if strings.HasPrefix(name, "./") {
					nettest.Check(t, os.Chown(file, other, other))
				}
				owners[file] = owner(t, file)
				if c.given && !strings.HasSuffix(name, "/") {
					owners[file] = user
				}
			}
			nettest.Check(t, os.Chown(path, c.owner, c.owner))
			nettest.Check(t, os.Chmod(path, c.mode))
			dir, err := os.OpenRoot(path)
			nettest.Check(t, err)
			defer dir.Close()
			if err := Give(dir, user, user); err != nil {
				t.Error(err)
			}
			want := c.owner
			if c.given {
				want = user
			}
			path, err = filepath.EvalSymlinks(path)
			nettest.Check(t, err)
			owners[path] = want
			for file, want := range owners {
				if got := owner(t, file); got != want {
					t.Errorf("%s is of user %d, want %d", file, got, want)
				}
			}
		})
	}
}

// as calls do with the file permissions of a user, who has no capabilities.
func as(t *testing.T, user int, do func()) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	set := func(uid int) {
		for _, set := range []func(int) (int, error){unix.SetfsgidRetGid, unix.SetfsuidRetUid} {
			_, err := set(uid)
			nettest.Check(t, err)
		}
	}
	set(user)
	defer set(0)
	do()
}

// TestUsable has a process that was root when it opened a directory, and is not any more.
func TestUsable(t *testing.T) {
	nettest.NeedRoot(t)
	const user = 65532
	file := func(name string, owner int, mode os.FileMode) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			nettest.Check(t, os.WriteFile(filepath.Join(dir, name), nil, mode))
			nettest.Check(t, os.Chown(filepath.Join(dir, name), owner, owner))
		}
	}
	link := func(to string) func(*testing.T, string) {
		return func(t *testing.T, dir string) { nettest.Check(t, os.Symlink(to, filepath.Join(dir, fileName))) }
	}
	on := func(flags uintptr, has ...func(*testing.T, string)) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			nettest.Check(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k,mode=0755"))
			t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
			for _, each := range has {
				each(t, dir)
			}
			nettest.Check(t, unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT|flags, "size=64k"))
		}
	}
	full := func(t *testing.T, dir string) {
		nettest.Check(t, os.Chown(dir, user, user))
		f, err := os.Create(filepath.Join(dir, "fill"))
		nettest.Check(t, err)
		defer f.Close()
		for block := make([]byte, 4096); err == nil; {
			_, err = f.Write(block)
		}
	}
	nothing := func(*testing.T, string) {}
	for _, c := range []struct {
		name  string
		owner int
		mode  os.FileMode
		has   func(*testing.T, string)
		paths string // of an AccessError; + stands for the directory
		says  string // else
	}{
		{"its own", user, 0o700, nothing, "", ""},
		{"its own with a history", user, 0o700, file(fileName, user, 0o600), "", ""},
		{"its own with a trial", user, 0o700, file(fileName+".trial", 0, 0o600), "", ""},
		{"for all", 0, 0o777, file(fileName, user, 0o600), "", ""},
		{"with a link to a history", user, 0o700, func(t *testing.T, dir string) {
			link("real.db")(t, dir)
			file("real.db", user, 0o600)(t, dir)
		}, "", ""},
		{"root's", 0, 0o755, nothing, "+", ""},
		{"root's alone", 0, 0o700, nothing, "+", ""},
		{"that it may not write", user, 0o500, nothing, "+", ""},
		{"that it may not enter", user, 0o600, file(fileName, user, 0o600), "+", ""},
		{"root's with its history", 0, 0o755, file(fileName, user, 0o600), "+", ""},
		{"root's with a history", 0, 0o755, file(fileName, 0, 0o600), "+ +/history.db", ""},
		{"its own with root's history", user, 0o700, file(fileName, 0, 0o600), "+/history.db", ""},
		{"its own with a history that it may only read", user, 0o700, file(fileName, 0, 0o644), "+/history.db", ""},
		{"with a directory of its name", user, 0o700, func(t *testing.T, dir string) { nettest.Check(t, os.Mkdir(filepath.Join(dir, fileName), 0o700)) },
			"", "/history.db: it is no regular file"},
		{"with a FIFO of its name", user, 0o700, func(t *testing.T, dir string) { nettest.Check(t, unix.Mkfifo(filepath.Join(dir, fileName), 0o600)) },
			"", "/history.db: it is no regular file"},
		{"with a link to elsewhere", user, 0o700, link("/etc/passwd"), "", "/history.db: path escapes"},
		{"with a link above", user, 0o700, link("../history.db"), "", "/history.db: path escapes"},
		{"with a link to itself", user, 0o700, link(fileName), "", "/history.db: too many levels"},
		{"read-only", user, 0o700, on(unix.MS_RDONLY, file(fileName, user, 0o600)), "", ""},
		{"read-only, root's", 0, 0o755, on(unix.MS_RDONLY), "", ""},
		{"read-only, with a history that it may not read", 0, 0o755, on(unix.MS_RDONLY, file(fileName, 0, 0o600)), "+/history.db", ""},
		{"full", user, 0o700, on(0, full), "", ""},
		{"full, with a history", user, 0o700, on(0, file(fileName, user, 0o600), full), "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := t.TempDir()
			nettest.Check(t, os.Chown(path, c.owner, c.owner))
			nettest.Check(t, os.Chmod(path, c.mode))
			c.has(t, path)
			before := names(t, path)
			dir, err := os.OpenRoot(path)
			nettest.Check(t, err)
			defer dir.Close()
			as(t, user, func() { err = Usable(dir) })
			var denied *AccessError
			switch {
			case c.paths != "":
				if want := strings.Fields(strings.ReplaceAll(c.paths, "+", path)); !errors.As(err, &denied) || !slices.Equal(denied.Paths, want) ||
					!errors.Is(err, fs.ErrPermission) || !strings.HasSuffix(err.Error(), strings.Join(want, " and ")+": permission denied") {
					t.Errorf("the error is %v, want one of %s", err, want)
				}
			case c.says != "":
				if err == nil || !strings.HasPrefix(err.Error(), path+c.says) || !Lasts(err) {
					t.Errorf("the error is %v, want one that begins with %s", err, path+c.says)
				}
			case err != nil:
				t.Error(err)
			}
			if after := names(t, path); after != strings.TrimPrefix(before, fileName+".trial") {
				t.Errorf("the directory had %s, and has %s", before, after)
			}
		})
	}
}

// names returns what is in a directory.
func names(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	nettest.Check(t, err)
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return strings.Join(all, " ")
}

// TestOpenDirThatCannotBe tells errors that stay from others.
func TestOpenDirThatCannotBe(t *testing.T) {
	nettest.NeedRoot(t)
	dir := t.TempDir()
	nettest.Check(t, os.Chmod(dir, 0o755))
	nettest.Check(t, os.Chmod(filepath.Dir(dir), 0o755))
	at := func(name string) string { return filepath.Join(dir, name) }
	nettest.Check(t, os.WriteFile(at("file"), nil, 0o600))
	nettest.Check(t, os.Symlink("nowhere", at("dangling")))
	nettest.Check(t, os.Symlink("loop", at("loop")))
	nettest.Check(t, os.Mkdir(at("private"), 0o700))
	nettest.Check(t, os.Mkdir(at("mounted"), 0o700))
	nettest.Check(t, unix.Mount("tmpfs", at("mounted"), "tmpfs", unix.MS_RDONLY, ""))
	t.Cleanup(func() { unix.Unmount(at("mounted"), unix.MNT_DETACH) })
	for name, lasts := range map[string]bool{
		"file": true, "file/data": true, "dangling": true, "dangling/data": true, "loop": true, "loop/data": true, "private": true,
		"private/data": true, "data": true, strings.Repeat("long", 100): true, "mounted/data": false,
	} {
		as(t, 65532, func() {
			if d, err := OpenDir(at(name)); err == nil || Lasts(err) != lasts {
				t.Errorf("%s: %v, %v; want an error that lasts: %t", name, d, err, lasts)
			}
		})
	}
	if Lasts(nil) {
		t.Error("no error lasts")
	}
}

func TestIsRoots(t *testing.T) {
	nettest.NeedRoot(t)
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	make := func(name string, owner int, mode os.FileMode) {
		nettest.Check(t, os.MkdirAll(at(name), 0o755))
		nettest.Check(t, os.Chown(at(name), owner, owner))
		nettest.Check(t, os.Chmod(at(name), mode))
	}
	link := func(to, name string, owner int) {
		nettest.Check(t, os.Symlink(to, at(name)))
		nettest.Check(t, os.Lchown(at(name), owner, owner))
	}
	const user = 1000
	make("system/empty", 0, 0o755)
	make("users", user, 0o755)
	make("users/roots", 0, 0o755)
	make("all", 0, 0o777|os.ModeSticky)
	make("all/roots", 0, 0o755)
	make("group", 0, 0o775)
	make("given", user, 0o700)
	link("system", "link", 0)
	link(at("system"), "absolute", 0)
	link("../system/empty", "users/link", user)
	link("../system/empty", "users/roots link", 0)
	link("../system/empty", "all/link", user)
	link("loop", "loop", 0)
	for path, want := range map[string]bool{
		"system": true, "system/empty": true, "system/new": true, "system/new/new": true, "system/empty/": true, "system/../system/empty": true,
		"given": true, // a user's own, where root made it
		"link":  true, "link/empty": true, "link/new": true, "absolute/empty": true,
		"users/roots": false, "users/new": false, "users/link": false, "users/link/new": false, "users/roots link": false,
		"all/roots": true, "all/roots/new": true, "all/new": false, "all/link": false, "group/new": false, "given/new": false, "loop": false,
	} {
		if got := IsRoots(at(path)); got != want {
			t.Errorf("%s: %v, want %v", path, got, want)
		}
	}
	t.Chdir(at("system"))
	if !IsRoots("new") || IsRoots("../users/new") {
		t.Error("a relative path is none of the directory that it is in")
	}
}

// TestPipeIsNoDirectory would wait for ever, if it was opened.
func TestPipeIsNoDirectory(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	nettest.Check(t, unix.Mkfifo(pipe, 0o600))
	if d, err := OpenDir(pipe); !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("%v, %v", d, err)
	}
	dir := t.TempDir()
	nettest.Check(t, unix.Mkfifo(filepath.Join(dir, fileName), 0o600))
	if _, err := Open(Config{Dir: dir}); !errors.Is(err, errIrregular) {
		t.Errorf("the error is %v", err)
	}
}
