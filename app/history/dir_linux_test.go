package history

import (
	"os"
	"path/filepath"
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
