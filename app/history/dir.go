package history

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"go.etcd.io/bbolt"
)

const fileName = "history.db"

// OpenDir opens a directory for a history, which only its owner may read. It makes the directory if it does not exist. A process that then
// becomes another user can still use it, even if that user may not enter the directories above.
func OpenDir(path string) (*os.Root, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, err
	}
	return os.OpenRoot(path)
}

// InUse returns ErrInUse if another process has the history in a directory open.
func InUse(dir *os.Root) error {
	if _, err := dir.Stat(fileName); err != nil {
		return nil
	}
	var db *bbolt.DB
	err := explain(guard(func() (err error) {
		db, err = bbolt.Open(fileName, 0o600, &bbolt.Options{Timeout: lockTimeout, ReadOnly: true, OpenFile: dir.OpenFile})
		return err
	}))
	if err == nil {
		err = guard(db.Close)
	}
	if errors.Is(err, ErrInUse) {
		return fmt.Errorf("%s: %w", filepath.Join(dir.Name(), fileName), err)
	}
	return nil // what is wrong with the file, Open says
}

// lostAndFound is in each new file system of ext2, ext3 and ext4 (mke2fs(8)).
const lostAndFound = "lost+found"

// Give gives a directory, and the files of a history in it, to a user. It only gives what is root's, what others may not write to, and what has
// no other files than those of a history. Of these it gives
//   - a directory that only root may enter, such as one that OpenDir has just made;
//   - one that has a history;
//   - the root of a file system that has just been made, with its lost+found, which stays root's: one that was mounted to be used;
//   - an empty one that is not directly in /, such as one of mkdir(1). Those in / may be the system's, for all: /mnt, /srv, /media or /opt are empty
//     and look the same.
//
// Others stay as they are, also empty ones of other users.
func Give(dir *os.Root, uid, gid int) error {
	d, err := dir.Open(".")
	if err != nil {
		return err
	}
	defer d.Close()
	info, err := d.Stat()
	if err != nil || !rootOwns(info) || info.Mode().Perm()&0o022 != 0 {
		return err
	}
	entries, err := d.ReadDir(-1)
	if err != nil {
		return err
	}
	private := info.Mode().Perm()&0o077 == 0
	var files []string
	hasHistory, fresh := false, false
	for _, e := range entries {
		switch {
		case strings.HasPrefix(e.Name(), fileName) && e.Type().IsRegular():
			files = append(files, e.Name())
			hasHistory = hasHistory || e.Name() == fileName
		case e.Name() == lostAndFound && e.IsDir():
			info, err := e.Info()
			if err != nil || !rootOwns(info) {
				return err
			}
			fresh = true
		default:
			return nil
		}
	}
	if !private && !hasHistory && !fresh && inRoot(dir.Name()) {
		return nil
	}
	for _, name := range files {
		if err := dir.Lchown(name, uid, gid); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return d.Chown(uid, gid)
}

// inRoot tells whether a directory is the root directory or directly in it, also if path leads there by links.
func inRoot(path string) bool {
	parent, err := os.Stat(path + "/..") // filepath.Join would take the last element off, and not follow it
	if err != nil {
		return true
	}
	root, err := os.Stat("/")
	return err != nil || os.SameFile(parent, root)
}

// useDir opens the directory, unless it is open.
func (h *History) useDir() (err error) {
	if h.dir == nil {
		h.dir, err = OpenDir(h.config.Dir)
	}
	return err
}

// syncDir has the names in the directory survive a power cut, where the system can do that.
func (h *History) syncDir() {
	if d, err := h.dir.Open("."); err == nil {
		d.Sync()
		d.Close()
	}
}
