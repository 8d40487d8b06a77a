package history

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"go.etcd.io/bbolt"
)

const fileName = "history.db"

// OpenDir opens a directory for a history, which only its owner may read. It makes the directory if it does not exist. A process that then
// becomes another user can still use it, even if that user may not enter the directories above.
func OpenDir(path string) (*os.Root, error) {
	if err := os.MkdirAll(filepath.Dir(filepath.Clean(path)), 0o755); err != nil {
		return nil, err
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		if !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		if _, statErr := os.Stat(path); errors.Is(statErr, fs.ErrNotExist) { // a link to nothing
			return nil, err
		}
	}
	return ExistingDir(path)
}

// ExistingDir opens a directory, and nothing else: opening a named pipe would wait for ever.
func ExistingDir(path string) (*os.Root, error) {
	if info, err := os.Stat(path); err == nil && !info.IsDir() {
		return nil, &fs.PathError{Op: "open", Path: path, Err: syscall.ENOTDIR}
	}
	return os.OpenRoot(path)
}

// IsRoots tells whether only root chooses where a path leads to: all links on it and directories above it are root's, and others may write to
// none of these but a sticky one, where something exists. Of what does not exist, that is so where it would be made.
//
// Root must not make or give away a directory elsewhere: a user could have put a link to one of the system's there.
func IsRoots(path string) bool {
	path, err := filepath.Abs(path)
	if err != nil {
		return false
	}
	const maxLinks = 40 // as the kernel has it (path_resolution(7))
	at, left := "/", path
	for links := 0; ; {
		info, err := os.Lstat(at)
		switch {
		case err != nil:
			return false
		case info.IsDir() && strings.TrimLeft(left, "/") == "":
			return true // whoever owns it
		case !rootOwns(info):
			return false
		case info.Mode()&fs.ModeSymlink != 0:
			to, err := os.Readlink(at)
			if links++; err != nil || links > maxLinks {
				return false
			}
			if at = filepath.Dir(at); filepath.IsAbs(to) {
				at = "/"
			}
			left = to + "/" + left
			continue
		}
		others := info.Mode().Perm()&0o022 != 0
		if others && info.Mode()&fs.ModeSticky == 0 {
			return false
		}
		left = strings.TrimLeft(left, "/")
		if left == "" {
			return true
		}
		var name string
		name, left, _ = strings.Cut(left, "/")
		next := filepath.Join(at, name)
		if _, err := os.Lstat(next); errors.Is(err, fs.ErrNotExist) {
			return !others
		}
		at = next
	}
}

// InUse returns ErrInUse if another process has the history in a directory open.
func InUse(dir *os.Root) error {
	if info, err := dir.Stat(fileName); err != nil || !info.Mode().IsRegular() {
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
	return nil // what is wrong with the file, Usable and Open say
}

// Lasts tells whether an error, if any, of opening or making a directory or file is one of what it is or who may use it, which stays until
// somebody mends that. A disk that is full, can only be read, or fails may be another one later.
func Lasts(err error) bool {
	var system syscall.Errno
	if !errors.As(err, &system) {
		return err != nil // that of a link out of an os.Root has no value of its own
	}
	return errors.Is(err, fs.ErrPermission) ||
		slices.Contains([]syscall.Errno{syscall.ENOTDIR, syscall.EISDIR, syscall.EEXIST, syscall.ELOOP, syscall.ENAMETOOLONG}, system)
}

// AccessError is the error of files or directories that this process may not use.
type AccessError struct {
	Paths []string
	Err   error // fs.ErrPermission
}

func (e *AccessError) Error() string { return strings.Join(e.Paths, " and ") + ": " + e.Err.Error() }
func (e *AccessError) Unwrap() error { return e.Err }

// Usable returns an error if this process cannot have a history in a directory, and that lasts: an *AccessError for lack of permission.
func Usable(dir *os.Root) error {
	var denied AccessError
	for _, each := range []struct {
		path string
		err  error
	}{{dir.Name(), makesFiles(dir)}, {filepath.Join(dir.Name(), fileName), opensFile(dir)}} {
		err := each.err
		if path := (*fs.PathError)(nil); errors.As(err, &path) {
			err = path.Err
		}
		switch {
		case !Lasts(err):
		case errors.Is(err, fs.ErrPermission):
			denied = AccessError{append(denied.Paths, each.path), err}
		default:
			return fmt.Errorf("%s: %w", each.path, err)
		}
	}
	if len(denied.Paths) > 0 {
		return &denied
	}
	return nil
}

var errIrregular = errors.New("it is no regular file")

// makesFiles makes a file, and removes it.
func makesFiles(dir *os.Root) error {
	const trial = fileName + ".trial"
	_ = dir.Remove(trial) // that of a process that was killed
	f, err := dir.OpenFile(trial, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) { // another process makes it now
		return nil
	}
	if err == nil {
		err = errors.Join(f.Close(), dir.Remove(trial))
	}
	return err
}

// opensFile opens the file, if it exists, as Open does: to be written, or if the file system can only be read, to be read.
func opensFile(dir *os.Root) error {
	info, err := dir.Stat(fileName)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) { // the directory must not be entered, and no file be made there
		return nil
	}
	if err == nil && !info.Mode().IsRegular() {
		return errIrregular
	}
	f, err := dir.OpenFile(fileName, os.O_RDWR, 0)
	if errors.Is(err, syscall.EROFS) {
		f, err = dir.Open(fileName)
	}
	if err == nil {
		err = f.Close()
	}
	return err
}

// lostAndFound is in each new file system of ext2, ext3 and ext4 (mke2fs(8)).
const lostAndFound = "lost+found"

// Give gives a directory, and the files of a history in it, to a user. It only gives what is root's, what others may not write to, and what has
// no other files than those of a history. Of these it gives
//   - a directory that only root may enter, such as one that OpenDir has just made;
//   - one that has a history;
//   - the root of a file system that has just been made, with its lost+found, which stays root's: one that was mounted to be used;
//   - an empty one that is not directly in /, such as one of mkdir(1). Those in / may be the system's, for all: /mnt, /srv, /media or /opt are
//     empty and look the same.
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
	if h.dir != nil {
		return nil
	}
	if h.dir, err = OpenDir(h.config.Dir); err != nil && h.config.Failed != nil {
		return fmt.Errorf("%w; at the start, with more privileges: %w", err, h.config.Failed)
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
