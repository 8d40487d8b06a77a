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

// Give gives a directory to a user. A directory with other files than those of a history stays as it is, and so does one that others may
// write to.
func Give(dir *os.Root, uid, gid int) error {
	d, err := dir.Open(".")
	if err != nil {
		return err
	}
	defer d.Close()
	info, err := d.Stat()
	if err != nil || info.Mode().Perm()&0o022 != 0 {
		return err
	}
	entries, err := d.ReadDir(-1)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), fileName) || !e.Type().IsRegular() {
			return nil
		}
	}
	for _, e := range entries {
		if err := dir.Lchown(e.Name(), uid, gid); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return d.Chown(uid, gid)
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
